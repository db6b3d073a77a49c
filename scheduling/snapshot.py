"""The database as one frozen `core.Cluster`, in a fixed number of queries."""

from collections import defaultdict
from datetime import datetime

from portal.kernel.locks import steady_view
from scheduling.core.cluster import Ask, Cluster, Gpu, Node, Part, Piece, Run, Shape
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.models import Allocation, Job, NodeState
from scheduling.models import Gpu as GpuRow
from scheduling.models import Node as NodeRow
from scheduling.wiring import wired


def seconds(moment: datetime | None) -> int:
    """A moment on core's axis, 0 for none."""
    return int(moment.timestamp()) if moment else 0


def load_cluster(now: datetime) -> Cluster:
    """Everything that `plan` looks at, as of one moment."""
    with steady_view():
        return Cluster(nodes=_nodes(now), asks=_asks(), runs=_runs())


def _nodes(now: datetime) -> tuple[Node, ...]:
    gpus: dict[int, list[Gpu]] = defaultdict(list)
    for card in GpuRow.objects.filter(retired_at__isnull=True).order_by("index", "id"):
        gpus[card.node_id].append(Gpu(id=card.pk, model=card.model, memory_mib=card.memory_mib or 0))
    silent_since = now - wired().silent_after
    nodes = []
    for row in NodeRow.objects.select_related("pool").order_by("id"):
        answers = row.seen_at is not None and row.seen_at >= silent_since and not row.trouble
        nodes.append(
            Node(
                id=row.pk,
                name=row.name,
                pool=row.pool.name,
                accepts=row.state == NodeState.READY and answers,
                cpu_millis=row.cpu_millis,
                memory_mib=row.memory_mib,
                gpus=tuple(gpus[row.pk]),
            )
        )
    return tuple(nodes)


def _ask(job: Job) -> Ask:
    return Ask(
        job=job.pk,
        version=job.version,
        team=job.team_id,
        user=job.owner_id,
        submitted=int(job.submitted_at.timestamp() * 1000),
        limit_s=int(job.limit.total_seconds()),
        tier=job.tier,
        preemptible=job.preemptible,
        shape=Shape(gpus=job.gpus, cpu_millis=job.cpu_millis, memory_mib=job.memory_mib, replicas=job.replicas),
    )


def _asks() -> tuple[Ask, ...]:
    return tuple(_ask(job) for job in Job.objects.filter(state=JobState.QUEUED).order_by("submitted_at", "id"))


def _runs() -> tuple[Run, ...]:
    """Whatever holds something, with the parts that it holds."""
    held: dict[int, list[Allocation]] = defaultdict(list)
    live = Allocation.objects.filter(released_at__isnull=True).select_related("slot__gpu").order_by("part", "id")
    for allocation in live:
        held[allocation.job_id].append(allocation)
    runs = []
    for job in Job.objects.filter(pk__in=list(held)).order_by("id"):
        rows = held[job.pk]
        news = [row.phase_at for row in rows if row.lead and row.phase_at]
        runs.append(
            Run(
                ask=_ask(job),
                parts=_parts(rows),
                held_at=seconds(min(row.held_at for row in rows)),
                state=JobState(job.state),
                running_at=seconds(job.running_at),
                since=seconds(job.since_at),
                progress_at=seconds(max(news, default=None)),
                end_reason=EndReason(job.end_reason) if job.end_reason else None,
            )
        )
    return tuple(runs)


def _parts(rows: list[Allocation]) -> tuple[Part, ...]:
    """Allocation rows by replica and node. CPU and memory are on the lead row."""
    parts: dict[tuple[int, int], list[Allocation]] = defaultdict(list)
    for row in rows:
        parts[row.part, row.node_id].append(row)
    return tuple(
        Part(
            node=node,
            pieces=tuple(
                Piece(gpu=row.slot.gpu_id, units=row.units)
                for row in members
                if row.slot is not None and row.slot.gpu.retired_at is None
            ),
            cpu_millis=sum(row.cpu_millis for row in members),
            memory_mib=sum(row.memory_mib for row in members),
        )
        for (_, node), members in parts.items()
    )
