"""One moment of the system, frozen: what there is, what runs, what waits, what is promised.

Everything `plan` may look at is here, so a snapshot can be dumped, replayed and changed for a what-if question. Times
are whole seconds on one axis (the epoch in the live loop, trace time in the simulator); durations end in `_s`. GPU
amounts are integer units (42,000 a card, see `units`), CPU thousandths of a core, memory MiB. Ids are positive; 0
means "none".

The machines themselves are described in `machines`.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from scheduling.core.lifecycle import EndReason, JobState
from scheduling.core.machines import Gpu, Instance, Node, Pool

__all__ = ["Ask", "Booking", "Claim", "Cluster", "Gpu", "Instance", "Need", "Node", "Outcome", "Part", "Past", "Piece",
           "Pool", "Quota", "Run", "Shape", "Team", "Window", "calm_until", "parked", "requeued"]  # fmt: skip


# ------------------------------------------------------------------------------------------------ who may use it
@dataclass(frozen=True, slots=True)
class Quota:
    """What one team has in one pool. Give `guaranteed` in units, or `percent_milli` in thousandths of a percent of what
    the pool really has (40 % = 40_000); the two add up. None means no limit. `user_limit`: the most one member may
    use."""

    pool: str
    guaranteed: int = 0
    percent_milli: int = 0
    borrow_limit: int | None = None
    lend_limit: int | None = None
    weight: int = 1
    user_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A daily span in which a team's jobs may start: seconds after midnight UTC, `days` with Monday = 0. A span whose
    end is before its start runs over midnight and belongs to the day it starts on."""

    days: tuple[int, ...]
    starts: int
    ends: int


@dataclass(frozen=True, slots=True)
class Team:
    """A node of the team tree; parent 0 hangs under the root, which owns the pools. Without `windows` it may start
    work at any time. `min_runtime_s`: its work is left alone for so long after each start, unless the job says
    more."""

    id: int
    name: str
    parent: int = 0
    quotas: tuple[Quota, ...] = ()
    windows: tuple[Window, ...] = ()
    min_runtime_s: int = 0


@dataclass(frozen=True, slots=True)
class Past:
    """The decayed mean of what a team (user 0) or one of its members had above its guarantee in one pool, as of `at`;
    what it has had since is what it has now, because the mean is brought up to date whenever that changes."""

    team: int
    user: int
    pool: str
    mean: int
    at: int


# ------------------------------------------------------------------------------------------------ what is asked
@dataclass(frozen=True, slots=True)
class Need:
    """A label that a node must have: one of `values`, or none of them where `absent`; no values: any value at all."""

    key: str
    values: tuple[str, ...] = ()
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """What a job needs, per replica; all replicas start or none. Jobs with equal shapes are interchangeable to
    placement.

    At most one of `gpus` (whole cards), `mig` (a profile like `2g.20gb`, or `2g` for any with two compute slices) and
    `thousandths` (a share of one card) is set. `gpu_memory_mib`: the least a card or instance must have, or what the
    share holds of its card. `models` and `pools`: acceptable ones, best first; empty: any.

    `required`/`preferred`: the level of the topology, `node`, or `island` (cards of one node that NVLink links), in one
    domain of which all replicas must, or should, lie. (Of the pool and models that are liked best, the smallest domain
    that holds them is tried first in any case.) A preferred level comes before that liking: if a domain of it, with any
    acceptable pool and models, holds all replicas now, they go there; else into one of the next wider level, else
    anywhere; but pools in which the team stays within its guarantee come first. It chooses among free places only: the
    job never waits for it and evicts nobody for it, and where it evicts or is promised a place for later, the
    preference is ignored.
    """

    gpus: int = 0
    cpu_millis: int = 0
    memory_mib: int = 0
    replicas: int = 1
    mig: str = ""
    thousandths: int = 0
    gpu_memory_mib: int = 0
    models: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    required: str = ""
    preferred: str = ""
    needs: tuple[Need, ...] = ()

    @property
    def wants_gpu(self) -> bool:
        return bool(self.gpus or self.mig or self.thousandths)


@dataclass(frozen=True, slots=True)
class Piece:
    """What is held of one card: all of it, a MIG instance (profile and first memory slot), or a share of it.

    `units` is what it costs; `memory_mib` what a share may use of the card's memory.
    """

    gpu: int
    units: int
    profile: str = ""
    start: int = 0
    thousandths: int = 0
    memory_mib: int = 0

    @property
    def whole(self) -> bool:
        return not self.profile and not self.thousandths


@dataclass(frozen=True, slots=True)
class Part:
    """One replica's place: a node, its pieces of GPUs (none for work without GPUs), its CPU and memory."""

    node: int
    pieces: tuple[Piece, ...] = ()
    cpu_millis: int = 0
    memory_mib: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """A job that waits, queued or suspended.

    `version`: enacted only if the job is still this one. `submitted` is kept across requeues. `deadline`: 0, or when an
    *accepted* deadline falls. `not_before`: never started earlier. `may_evict_from`: until then it takes free slots
    only, because it was itself evicted a short while ago. `attained`: GPU-unit-seconds that it has had so far.
    `min_runtime_s`: once started it is left alone for so long. A suspended job has `pinned`: the parts to which it
    must return, and `suspended_at`. `saved_mib`: what its GPU memory amounts to when it is suspended, per part (0:
    not known).
    """

    job: int
    team: int
    user: int
    shape: Shape
    submitted: int
    limit_s: int
    version: int = 1
    tier: str = "normal"
    priority: int = 0
    deadline: int = 0
    not_before: int = 0
    preemptible: bool = True
    suspendable: bool = False
    min_runtime_s: int = 0
    may_evict_from: int = 0
    attained: int = 0
    restarts: int = 0
    pinned: tuple[Part, ...] = ()
    suspended_at: int = 0
    saved_mib: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """A job that holds something, from PLACED to STOPPING. `ask` is what it asked for and what it goes back to.

    `held_at`: when it got its place. `running_at`: when RUNNING began in this attempt, 0 before that; the time limit
    counts from there. `since`: when the present state began; `progress_at`: the last sign of progress while PLACED.
    """

    ask: Ask
    parts: tuple[Part, ...]
    held_at: int
    state: JobState = JobState.RUNNING
    running_at: int = 0
    since: int = 0
    progress_at: int = 0
    pool: str = ""
    end_reason: EndReason | None = None

    @property
    def job(self) -> int:
        return self.ask.job

    def ends_by(self, now: int) -> int:
        """The latest end that its limit allows, always after `now`: an overdue run is being stopped, not gone."""
        return max(now + 1, (self.running_at or max(now, self.held_at)) + self.ask.limit_s)


# ------------------------------------------------------------------------------------------------ what is promised
@dataclass(frozen=True, slots=True)
class Claim:
    """A place that is being freed for one job: it bars everyone else and counts as the job's use, until the job is
    placed there, leaves the queue, or the claim expires. `victims`: the jobs that must be gone before it can be
    used."""

    job: int
    parts: tuple[Part, ...]
    pool: str
    made_at: int
    expires_at: int
    victims: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Booking:
    """A calendar reservation: from `starts` to `ends` only this team and the teams below it use these nodes."""

    id: int
    team: int
    nodes: tuple[int, ...]
    starts: int
    ends: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """The snapshot. The order of rows carries no meaning: `plan` sorts by id wherever order could matter."""

    nodes: tuple[Node, ...] = ()
    asks: tuple[Ask, ...] = ()
    runs: tuple[Run, ...] = ()
    pools: tuple[Pool, ...] = ()
    teams: tuple[Team, ...] = ()
    past: tuple[Past, ...] = ()
    claims: tuple[Claim, ...] = ()
    bookings: tuple[Booking, ...] = ()
    #: the asks seen so far and how often each came, for the fragmentation score; counted outside, from time to time
    mix: tuple[tuple[Shape, int], ...] = ()


class Outcome(StrEnum):
    """How a run left its place, as far as its way back into the queue depends on it."""

    EVICTED = "evicted"
    FAULT = "fault"


def requeued(run: Run, *, now: int, outcome: Outcome, no_evict_s: int, kept: int = 0) -> Ask:
    """The ask with which a run goes back to the queue: submitted as before, and calm for a while if it was evicted.

    The horizon is max(no_evict_s, twice its minimum runtime): without it two teams could evict each other for ever.
    `kept`: unit-seconds of service that count as attained (a suspended job keeps all, a restarted one by its tier's
    rule).
    """
    ask = run.ask
    evicted = outcome is Outcome.EVICTED
    calm = calm_until(ask, now=now, no_evict_s=no_evict_s) if evicted else ask.may_evict_from
    return replace(ask, may_evict_from=calm, restarts=ask.restarts + 1, attained=ask.attained + kept, pinned=())


def calm_until(ask: Ask, *, now: int, no_evict_s: int) -> int:
    """Until when a job that is evicted now evicts nobody itself."""
    return now + max(no_evict_s, 2 * ask.min_runtime_s)


def fell_at(ask: Ask, *, no_evict_s: int) -> int:
    """When a waiting job was last evicted; 0: never. (A turn that is over is no eviction.)"""
    horizon = calm_until(ask, now=0, no_evict_s=no_evict_s)
    return max(1, ask.may_evict_from - horizon) if ask.may_evict_from else 0


def parked(run: Run, *, now: int, ran_s: int, calm_until: int, pinned: bool = True) -> Ask:
    """The ask with which a suspended run waits for its own cards: its work is kept, so its limit is less by what it
    ran, and that service counts as attained. `pinned` is False where it may go on anywhere (`Policy.keeps_work`)."""
    ask = run.ask
    units = sum(piece.units for part in run.parts for piece in part.pieces)
    return replace(
        ask, pinned=run.parts if pinned else (), suspended_at=now if pinned else 0,
        limit_s=max(1, ask.limit_s - ran_s), attained=ask.attained + units * ran_s,
        may_evict_from=max(ask.may_evict_from, calm_until),
    )  # fmt: skip
