"""What others may read of the scheduler.

Long because pages, gateways and commands share these few readings, and none of them may know the rows.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from scheduling.core.cluster import Ask
from scheduling.core.explain import Names, sentence
from scheduling.core.forecast import start_ranges
from scheduling.core.lifecycle import FINAL, JobState
from scheduling.core.remedies import Change, changes_that_would_start
from scheduling.core.runtimes import ENOUGH, UsedOfLimit
from scheduling.core.units import GPU_UNITS
from scheduling.inventory import latest_samples
from scheduling.models import Allocation, Gpu, GpuEvent, Job, JobTransition, Node, NodeState, Outlook, Pool
from scheduling.nodes.driver import Sample
from scheduling.records.arrays import first_ask
from scheduling.shaping import accepts_work, ask_of, seconds
from scheduling.snapshot import load_cluster
from scheduling.troubles import reported_errors, trouble_of
from scheduling.wiring import wired

#: ends that estimates learn from; what one group of jobs uses is judged by its last 200
RECENT_ENDS = 5_000


@dataclass(frozen=True, slots=True)
class HeldGpu:
    model: str
    uuid: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class JobDetail:
    """A job as its page shows it. `progress`: bytes of the image, (done, total), total 0 when not known."""

    job: Job
    why_waiting: str
    position: int | None
    node: str
    trouble: str
    gpus: tuple[HeldGpu, ...]
    phase: str
    progress: tuple[int, int] | None
    history: tuple[JobTransition, ...]
    #: from when on a place is kept for it, as of the last cycle; None: nothing is
    reserved_at: datetime | None = None


def job_details(jobs: Sequence[Job]) -> dict[int, JobDetail]:
    """Details of many jobs in a fixed number of queries."""
    leads: dict[int, Allocation] = {}
    gpus: dict[int, list[HeldGpu]] = defaultdict(list)
    attempts = {job.pk: job.attempt for job in jobs}
    rows = Allocation.objects.filter(job__in=list(attempts)).select_related("node", "slot__gpu").order_by("id")
    for row in rows:
        if row.attempt != attempts[row.job_id]:
            continue
        if row.lead:
            leads.setdefault(row.job_id, row)
        if row.slot is not None:
            gpu = row.slot.gpu
            gpus[row.job_id].append(HeldGpu(gpu.model, gpu.uuid, gpu.simulated))
    errors = reported_errors(attempts)
    history: dict[int, list[JobTransition]] = defaultdict(list)
    for move in JobTransition.objects.filter(job__in=list(attempts)).order_by("id"):
        history[move.job_id].append(move)
    reserved, names = _reserved(), _names(jobs)
    return {
        job.pk: _detail(
            job, leads.get(job.pk), tuple(gpus[job.pk]), tuple(history[job.pk]), reserved.get(job.pk),
            errors.get(job.pk), names,
        )
        for job in jobs
    }  # fmt: skip


def _names(jobs: Sequence[Job]) -> Names:
    """What the machines are called that their reasons speak of; whose a booking is, they do not say."""
    nodes = {job.hold_numbers["node"] for job in jobs if "node" in job.hold_numbers}
    return Names(dict(Node.objects.filter(pk__in=nodes).values_list("pk", "name")) if nodes else {})


def _reserved() -> dict[int, datetime]:
    """When the places that the last cycle keeps for blocked jobs become theirs."""
    rows = Outlook.objects.filter(pk=1).values_list("reserves", flat=True).first() or []
    return {row["job"]: datetime.fromtimestamp(row["at"], UTC) for row in rows}


def _detail(
    job: Job,
    lead: Allocation | None,
    gpus: tuple[HeldGpu, ...],
    history: tuple[JobTransition, ...],
    reserved_at: datetime | None,
    error: GpuEvent | None,
    names: Names,
) -> JobDetail:
    waiting = job.state == JobState.QUEUED
    done, total = (lead.progress_done, lead.progress_total) if lead else (0, 0)
    return JobDetail(
        job=job,
        why_waiting=sentence(job.hold_code, job.hold_numbers, names) if waiting else "",
        position=job.hold_numbers.get("position") if waiting else None,
        node=lead.node.name if lead else "",
        trouble=trouble_of(job, lead, error),
        gpus=gpus,
        phase=lead.phase if lead else "",
        progress=(done, total) if done or total else None,
        history=history,
        reserved_at=reserved_at if waiting else None,
    )


@dataclass(frozen=True, slots=True)
class Estimate:
    """When a waiting job will start: in half of the cases by `likely_at`, in nine of ten by `late_at` (None: not within
    a month). `learned`: from how much of their limits such jobs have used; else every job is taken to its limit."""

    likely_at: datetime | None
    late_at: datetime | None
    learned: bool


def estimates(*, now: datetime) -> dict[int, Estimate]:
    """For every job that waits: the queue run forward twice, nothing new arriving.

    Takes as long as some dozens of cycles: for somebody who asks, not for lists.
    """
    cluster, policy, at = load_cluster(now), wired().policy, seconds(now)
    if not cluster.asks:
        return {}
    used = UsedOfLimit()
    ends = _recent_ends()
    for ask, ran_s in ends:
        used.ended(ask, ran_s)
    ranges = start_ranges(cluster, policy, at, median=partial(used.at, percent=50), late=used.late)
    learned = len(ends) >= ENOUGH
    return {job: Estimate(_moment(start.p50), _moment(start.p90), learned) for job, start in ranges.items()}


def estimate(job: Job, *, now: datetime) -> Estimate | None:
    """For one of them; None for a job that does not wait. It costs as much as for all."""
    return estimates(now=now).get(first_ask(job))


def changes_that_start(job: Job, *, tiers: Sequence[str], now: datetime) -> tuple[Change, ...]:
    """The smallest changes that would each start this waiting job at once, every one proven by a plan of this moment.
    `tiers`: those that its owner may use."""
    return changes_that_would_start(load_cluster(now), wired().policy, seconds(now), first_ask(job), tiers=tiers)


def _moment(at: int | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _recent_ends() -> list[tuple[Ask, int]]:
    """What has run of late and how many seconds it ran, the oldest first."""
    ended = Job.objects.filter(state__in=FINAL, running_at__isnull=False).order_by("-ended_at", "-id")
    ended = ended.defer("env", "command", "log_tail", "end_message", "hold_numbers", "terms")[:RECENT_ENDS]
    return [(ask_of(job), seconds(job.ended_at) - seconds(job.running_at)) for job in reversed(ended)]


def pool_units(name: str) -> tuple[int, tuple[int, str]] | None:
    """(units that the pool has with every machine that is here for good, (units in one, what is counted)); None: there
    is no such pool. In a pool without GPUs cores are counted."""
    if not Pool.objects.filter(name=name).exists():
        return None
    nodes = Node.objects.filter(pool__name=name).exclude(state__in=[NodeState.LOST, NodeState.FENCED])
    cards = Gpu.objects.filter(node__in=nodes, retired_at__isnull=True).count()
    if cards:
        return cards * GPU_UNITS, (GPU_UNITS, "GPUs")
    return sum(node.cpu_millis for node in nodes), (1000, "cores")


@dataclass(frozen=True, slots=True)
class ServingPart:
    """A running job's server: where it is and the secret that opens it."""

    job_id: int
    node: str
    allocation: str
    token: str


def serving_parts() -> list[ServingPart]:
    """Every RUNNING job that serves something, for the gateway's table. One query."""
    leads = Allocation.objects.filter(
        released_at__isnull=True, lead=True, part=0, job__state=JobState.RUNNING, job__port__gt=0
    ).values_list("job_id", "node__name", "id")
    secret = wired().server_token
    return [ServingPart(job, node, str(allocation), secret(allocation)) for job, node, allocation in leads]


@dataclass(frozen=True, slots=True)
class GpuView:
    uuid: str
    index: int
    model: str
    memory_mib: int | None
    simulated: bool
    held: bool
    sample: Sample | None
    #: why nothing new is placed on it, and since when; empty: it is well
    quarantine: str = ""
    quarantined_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NodeView:
    """A machine as its page shows it. Unknown figures are None. `agent`: the version of its agent."""

    id: int
    name: str
    pool: str
    state: str
    agent: str
    driver: str
    cpu_millis: int
    memory_mib: int
    free_cpu_millis: int
    free_memory_mib: int
    gpus: tuple[GpuView, ...]
    notes: tuple[str, ...]
    images: tuple[str, ...]
    trouble: str
    seen_at: datetime | None
    accepts: bool
    #: seconds since its last report; None: none yet
    age_s: int | None = None

    @property
    def free_gpus(self) -> int:
        return sum(not gpu.held and not gpu.quarantine for gpu in self.gpus)

    @property
    def sick_gpus(self) -> int:
        return sum(bool(gpu.quarantine) for gpu in self.gpus)


def node_map(*, now: datetime, node: int | None = None) -> list[NodeView]:
    """Every machine, or this one, with its GPUs and their latest readings, in a fixed number of queries."""
    nodes = Node.objects.select_related("pool").filter(**({} if node is None else {"pk": node}))
    gpu_rows = list(Gpu.objects.filter(retired_at__isnull=True, node__in=nodes).order_by("node_id", "index"))
    samples = latest_samples([gpu.uuid for gpu in gpu_rows])
    gpus: dict[int, list[GpuView]] = defaultdict(list)
    for gpu in gpu_rows:
        gpus[gpu.node_id].append(
            GpuView(
                uuid=gpu.uuid,
                index=gpu.index,
                model=gpu.model,
                memory_mib=gpu.memory_mib,
                simulated=gpu.simulated,
                held=gpu.held_units > 0,
                sample=samples.get(gpu.uuid),
                quarantine=gpu.quarantine_reason,
                quarantined_at=gpu.quarantined_at,
            )
        )
    used: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    live = Allocation.objects.filter(released_at__isnull=True, node__in=nodes)
    for node_id, cpu, memory in live.values_list("node_id", "cpu_millis", "memory_mib"):
        used[node_id][0] += cpu
        used[node_id][1] += memory
    return [_node_view(row, tuple(gpus[row.pk]), used[row.pk], now) for row in nodes]


def _node_view(node: Node, gpus: tuple[GpuView, ...], used: list[int], now: datetime) -> NodeView:
    return NodeView(
        id=node.pk,
        name=node.name,
        pool=node.pool.name,
        state=node.state,
        agent=str(node.facts.get("agent", "")),
        driver=node.driver,
        cpu_millis=node.cpu_millis,
        memory_mib=node.memory_mib,
        free_cpu_millis=max(0, node.cpu_millis - used[0]),
        free_memory_mib=max(0, node.memory_mib - used[1]),
        gpus=gpus,
        notes=tuple(node.notes),
        images=tuple(node.images),
        trouble=node.trouble,
        seen_at=node.seen_at,
        accepts=accepts_work(node, now),
        age_s=None if node.seen_at is None else max(0, int((now - node.seen_at).total_seconds())),
    )


def containers_held() -> int:
    """How many containers have not been seen gone yet."""
    return Allocation.objects.filter(released_at__isnull=True, lead=True).count()


def drivers_in_use() -> set[str]:
    """Which drivers the machines run; empty before the first report."""
    return set(Node.objects.values_list("driver", flat=True))
