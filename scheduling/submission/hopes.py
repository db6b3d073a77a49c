"""What somebody who submits may hope for: what can never be is refused with the reason, a deadline is weighed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

from portal.kernel import clock
from portal.kernel.errors import Rejected
from scheduling.core.cluster import Ask
from scheduling.core.explain import sentence
from scheduling.core.forecast import estimate_starts, meets_deadline
from scheduling.core.places.filters import ISLAND, NODE
from scheduling.core.plan import Planner
from scheduling.models import Gpu, Job, Node, NodeState, Pool
from scheduling.shaping import ask_of, seconds
from scheduling.snapshot import load_cluster, load_empty
from scheduling.wiring import wired
from tenants.models import User
from tenants.permissions import may_submit_critical

#: the id of a job that has none yet: the last of all, as a new one's will be
NEWCOMER = 1 << 62
#: for so long an ask that could start is known to be one that can, and so many are remembered
KNOWN_FOR_S, MOST_KNOWN = 5.0, 2_000


class TooManyGpus(Rejected):
    """You asked for {asked} GPUs on one machine; the largest has {largest}. Ask for {largest} or fewer."""

    field = "gpus"


class NoGpuAnywhere(Rejected):
    """No machine here has a GPU; ask for 0 GPUs."""

    field = "gpus"


class TooMuchCpu(Rejected):
    """You asked for {asked} CPU cores; the largest machine with the GPUs you want has {largest}."""

    field = "cpus"


class TooMuchMemory(Rejected):
    """You asked for {asked} GiB of memory; the largest machine with the GPUs you want has {largest} GiB."""

    field = "memory_gib"


class NothingToRunOn(Rejected):
    """No machine has reported to Berth yet, so nothing can be started; try again in a moment."""


class UnknownTier(Rejected):
    """There is no tier '{tier}'; choose one of: {known}."""

    field = "tier"


class CriticalNotGranted(Rejected):
    """Work of the tier '{tier}' may take what others are guaranteed, so only admins and owners of a team submit it."""

    field = "tier"


class UnknownPool(Rejected):
    """There is no pool '{pool}'; choose among: {known}."""

    field = "pools"


class UnknownLevel(Rejected):
    """There is no topology level '{level}'; choose one of: {known}."""

    field = "within"


class NoReplicas(Rejected):
    """A job has one replica or more; you asked for {replicas}."""

    field = "replicas"


class NoTime(Rejected):
    """A time limit is one second or more."""

    field = "time_limit"


class DeadlineTooEarly(Rejected):
    """With a time limit of {limit} it cannot be sure to be over by {deadline}; the earliest deadline is {earliest}."""

    field = "deadline"


class NoPartsOfGpus(Rejected):
    """No machine here can give a part of a GPU yet; ask for whole GPUs."""

    field = "gpus"


class CanNeverStart(Rejected):
    """Even with every machine free it could not start. {why}"""


# ---------------------------------------------------------------------------------------------------- what can never be
class Prospects:
    """What could ever start, on machines and rights as they are at one moment; each is read when it is first needed, so
    that a thousand jobs of a few kinds are judged on one reading."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    @cached_property
    def _machines(self) -> list[tuple[int, int, int]]:
        return _machines()

    @cached_property
    def _pools(self) -> set[str]:
        return set(Pool.objects.values_list("name", flat=True))

    @cached_property
    def _planner(self) -> Planner:
        # What free GPUs keep of a node's CPU is not for ever: work without GPUs gets it once they are in use.
        planner = Planner(replace(wired().policy, cpu_kept_percent=0))
        planner.load(load_empty(self.now))
        return planner

    def refuse_what_makes_no_sense(self, job: Job, *, by: User) -> None:
        """Raise the first word of this job, not saved yet, that nobody here knows, or that this person may not say."""
        policy = wired().policy
        tier = next((tier for tier in policy.tiers if tier.name == job.tier), None)
        if tier is None:
            raise UnknownTier(tier=job.tier[:40], known=_list([tier.name for tier in policy.tiers]))
        if tier.critical and not may_submit_critical(by, job.team):
            raise CriticalNotGranted(tier=tier.name)
        levels = (ISLAND, NODE, *policy.levels)
        for level in (job.required, job.preferred):
            if level and level not in levels:
                raise UnknownLevel(level=level[:40], known=_list(levels))
        for pool in job.pools:
            if pool not in self._pools:
                raise UnknownPool(pool=str(pool)[:40], known=_list(sorted(self._pools)))
        if job.replicas < 1:
            raise NoReplicas(replicas=job.replicas)
        if job.limit < timedelta(seconds=1):
            raise NoTime()
        if job.mig or job.thousandths:
            raise NoPartsOfGpus()
        _refuse_an_early_deadline(job, self.now)

    def refuse_what_cannot_be(self, job: Job) -> None:
        """Raise the first reason why this job, not saved yet, could never start: what neither machines nor rights give
        even when nobody uses anything (gangs, topology, guarantees, limits).

        An ask that could start a few seconds ago is not judged again: a machine that left in between is the same to it
        as one that leaves a little later. What was refused is always judged anew.
        """
        known, at = wired().could_start, clock.monotonic()
        ask = kind_of(job)
        if known.get(ask, at) > at:
            return
        _refuse_sizes(self._machines, gpus=job.gpus, cpu_millis=job.cpu_millis, memory_mib=job.memory_mib)
        self._planner.submit(ask)
        outcome = self._planner.plan(seconds(self.now))
        self._planner.withdraw(ask.job)
        for hold in outcome.holds:
            raise CanNeverStart(why=sentence(hold.code, dict(hold.numbers)))
        if len(known) >= MOST_KNOWN:
            known.clear()
        known[ask] = at + KNOWN_FOR_S


def kind_of(job: Job) -> Ask:
    """What the verdict on a job depends on: jobs of one kind could all start, or none."""
    return replace(newcomer(job), submitted=0, deadline=0, not_before=0)


def refuse_what_never_fits(*, gpus: int, cpu_millis: int, memory_mib: int) -> None:
    """Raise the first reason why no enrolled machine could ever run this. GPUs, then CPU, then memory."""
    _refuse_sizes(_machines(), gpus=gpus, cpu_millis=cpu_millis, memory_mib=memory_mib)


def _refuse_sizes(machines: list[tuple[int, int, int]], *, gpus: int, cpu_millis: int, memory_mib: int) -> None:
    if not machines:
        raise NothingToRunOn()
    most = max(count for count, _, _ in machines)
    if gpus and not most:
        raise NoGpuAnywhere()
    if gpus > most:
        raise TooManyGpus(asked=gpus, largest=most)
    machines = [machine for machine in machines if machine[0] >= gpus]
    cpu = max(cpu for _, cpu, _ in machines)
    if cpu_millis > cpu:
        raise TooMuchCpu(asked=f"{cpu_millis / 1000:g}", largest=f"{cpu / 1000:g}")
    memory = max(memory for _, cpu, memory in machines if cpu >= cpu_millis)
    if memory_mib > memory:
        raise TooMuchMemory(asked=f"{memory_mib / 1024:g}", largest=f"{memory // 1024}")


def _machines() -> list[tuple[int, int, int]]:
    """(GPUs, thousandths of a core, MiB) of every machine that is in the pool for good."""
    nodes = Node.objects.exclude(state__in=[NodeState.LOST, NodeState.FENCED])
    gpus: dict[int, int] = {}
    for node_id in Gpu.objects.filter(retired_at__isnull=True).values_list("node_id", flat=True):
        gpus[node_id] = gpus.get(node_id, 0) + 1
    return [(gpus.get(node.pk, 0), node.cpu_millis, node.memory_mib) for node in nodes]


def _refuse_an_early_deadline(job: Job, now: datetime) -> None:
    earliest = max(now, job.not_before_at or now) + job.limit
    if job.deadline_at is not None and job.deadline_at < earliest:
        raise DeadlineTooEarly(limit=job.limit, deadline=_minute(job.deadline_at), earliest=_minute(earliest))


def _minute(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none yet"


# ---------------------------------------------------------------------------------------------------- what may be hoped
def newcomer(job: Job) -> Ask:
    """What a job that has no id yet asks for."""
    job.pk = NEWCOMER
    try:
        return ask_of(job)
    finally:
        job.pk = None


def weigh_deadline(job: Job, *, now: datetime) -> tuple[bool, datetime | None]:
    """(may the deadline of this job, not saved yet, be accepted; when the job then starts). Runs the queue forward with
    every job at its limit; no transaction is open meanwhile."""
    cluster, policy, at = load_cluster(now), wired().policy, seconds(now)
    ask = replace(newcomer(job), deadline=seconds(job.deadline_at))
    accepted = meets_deadline(cluster, policy, at, ask)
    world = replace(cluster, asks=(*cluster.asks, ask if accepted else replace(ask, deadline=0)))
    start = estimate_starts(world, policy, at).get(ask.job)
    return accepted, datetime.fromtimestamp(start, UTC) if start is not None else None
