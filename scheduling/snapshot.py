"""The database as one frozen `core.Cluster`, in a fixed number of queries."""

from collections import defaultdict
from datetime import datetime

from django.db.models import Sum

from portal.kernel.locks import steady_view
from scheduling.core.cluster import Ask, Cluster, Node, Run, Slot
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.models import Allocation, Job, NodeState
from scheduling.models import Node as NodeRow
from scheduling.models import Slot as SlotRow
from scheduling.wiring import wired

_TIMED = [JobState.PLACED, JobState.STARTING, JobState.RUNNING]


def load_cluster(now: datetime) -> Cluster:
    """Everything that `plan` looks at, as of one moment."""
    with steady_view():
        return Cluster(nodes=_nodes(now), asks=_asks(), runs=_runs(now))


def _nodes(now: datetime) -> tuple[Node, ...]:
    live = Allocation.objects.filter(released_at__isnull=True)
    held = set(live.filter(slot__isnull=False).values_list("slot_id", flat=True))
    used = {
        row["node_id"]: row
        for row in live.values("node_id").annotate(cpu=Sum("cpu_millis"), memory=Sum("memory_mib")).order_by()
    }
    slots: dict[int, list[Slot]] = defaultdict(list)
    rows = SlotRow.objects.filter(retired_at__isnull=True, gpu__retired_at__isnull=True)
    for slot, gpu, units, node in rows.order_by("gpu__index", "id").values_list(
        "id", "gpu_id", "units", "gpu__node_id"
    ):
        slots[node].append(Slot(id=slot, gpu=gpu, units=units, held=slot in held))
    silent_since = now - wired().silent_after
    nodes = []
    for row in NodeRow.objects.select_related("pool").order_by("id"):
        use = used.get(row.pk, {"cpu": 0, "memory": 0})
        answers = row.seen_at is not None and row.seen_at >= silent_since and not row.trouble
        nodes.append(
            Node(
                id=row.pk,
                name=row.name,
                pool=row.pool.name,
                accepts=row.state == NodeState.READY and answers,
                cpu_millis=row.cpu_millis,
                memory_mib=row.memory_mib,
                free_cpu_millis=max(0, row.cpu_millis - use["cpu"]),
                free_memory_mib=max(0, row.memory_mib - use["memory"]),
                slots=tuple(slots[row.pk]),
            )
        )
    return tuple(nodes)


def _asks() -> tuple[Ask, ...]:
    queued = Job.objects.filter(state=JobState.QUEUED).order_by("submitted_at", "id")
    rows = queued.values_list(
        "id", "version", "team_id", "owner_id", "gpus", "cpu_millis", "memory_mib", "replicas"
    )
    return tuple(
        Ask(
            job=job,
            version=version,
            team=team,
            owner=owner,
            submitted=place,
            gpus=gpus,
            cpu_millis=cpu,
            memory_mib=memory,
            replicas=replicas,
        )
        for place, (job, version, team, owner, gpus, cpu, memory, replicas) in enumerate(rows)
    )


def _latest_news(jobs: list[Job]) -> dict[int, datetime]:
    """When the node last had something new to say of each job."""
    leads = Allocation.objects.filter(job__in=jobs, released_at__isnull=True, lead=True, phase_at__isnull=False)
    pairs = leads.order_by("phase_at").values_list("job_id", "phase_at")
    return {job: at for job, at in pairs if at is not None}


def _runs(now: datetime) -> tuple[Run, ...]:
    jobs = list(Job.objects.filter(state__in=_TIMED).order_by("id"))
    news = _latest_news(jobs)
    runs = []
    for job in jobs:
        in_state = int((now - job.since_at).total_seconds())
        last = max(job.since_at, news.get(job.pk, job.since_at))
        runs.append(
            Run(
                job=job.pk,
                version=job.version,
                state=JobState(job.state),
                in_state_s=in_state,
                ran_s=int((now - job.running_at).total_seconds()) if job.running_at else 0,
                limit_s=int(job.limit.total_seconds()),
                stalled_s=int((now - last).total_seconds()),
                end_reason=EndReason(job.end_reason) if job.end_reason else None,
            )
        )
    return tuple(runs)
