"""What one cycle decides. Every waiting job gets exactly one Place or one Hold with a reason."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from scheduling.core.cluster import Claim, Instance, Part
from scheduling.core.lifecycle import EndReason

__all__ = [
    "Cause",
    "Claim",
    "Credit",
    "Hold",
    "HoldCode",
    "Lack",
    "Part",
    "Place",
    "Plan",
    "Recut",
    "Reserve",
    "Stop",
    "Suspend",
]


class HoldCode(StrEnum):
    """Why a job waits: the dominant obstacle once the plan is carried out. The numbers that go with each code are named
    in `explain.SENTENCES`."""

    NO_NODES = "no_nodes"  # no node that could hold it accepts work now, or there is no node at all
    NEVER_FITS = "never_fits"  # no node is of that kind (`Lack`); refused at submit, may come true when nodes leave
    NOT_BEFORE = "not_before"  # it asked for a later start
    TEAM_WINDOW = "team_window"  # its team may start work at other hours
    GUARANTEE_USED = "guarantee_used"  # may not be evicted, so it may not borrow, and the guarantee is used up
    TEAM_LIMIT = "team_limit"  # a limit of its team, or of a team above it
    USER_LIMIT = "user_limit"  # the most that one member may use
    POOL_FULL = "pool_full"  # everything that the tree may give is in use
    CLAIMED = "claimed"  # others are stopping for it
    GPUS_BUSY = "gpus_busy"
    ISLAND_BUSY = "island_busy"  # enough GPUs may be free, but not in one NVLink island, as it asks for
    SLICES_BUSY = "slices_busy"  # no card that it may use has a share or instance of that size free
    GANG_BUSY = "gang_busy"  # some replicas would fit, not all
    CPU_BUSY = "cpu_busy"
    MEMORY_BUSY = "memory_busy"
    TOPOLOGY = "topology"  # enough is free, but not close together
    RESERVED = "reserved"  # it would fit, but would delay another job that its place is kept for
    BOOKED = "booked"  # it would fit, but a team has booked the node
    PINNED = "pinned"  # suspended: its own GPUs are in use
    NEXT = "next"  # what stood in its way at its turn went away in the same cycle: the next one looks at it again


class Lack(IntEnum):
    """The number `lacks` of NEVER_FITS: the filter that left no node, in the order in which they are asked. What stands
    before it is met by some node. Stored: a value keeps its meaning."""

    POOL = 1
    LABEL = 2
    GPU = 3
    MODEL = 4
    MIG = 5
    GPU_MEMORY = 6
    COUNT = 7  # of such GPUs, alike, on one node
    SIZE = 8  # CPU and memory beside them
    CUT = 9  # asked after MODEL: whole cards and shares, where every card stays cut
    ISLAND = 10  # asked after COUNT: so many GPUs linked by NVLink


@dataclass(frozen=True, slots=True)
class Place:
    """Start a queued job, or resume a suspended one on its own GPUs."""

    job: int
    version: int
    parts: tuple[Part, ...]
    pool: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a run. An eviction names the job that it is done for; it gets the notice and its grace first."""

    job: int
    version: int
    reason: EndReason
    beneficiary: int = 0


@dataclass(frozen=True, slots=True)
class Suspend:
    """Save a run's GPU memory to its node and free its GPUs for `beneficiary`; it resumes there later, with nothing
    lost. `calm_until`: the `may_evict_from` with which it waits; 0 where it only had its turn."""

    job: int
    version: int
    beneficiary: int
    calm_until: int = 0


@dataclass(frozen=True, slots=True)
class Credit:
    """Guaranteed work of `job` fell for critical work: `lost` unit-seconds, by which the past use of its teams counts
    for less, from its own up to the one below the common ancestor. `mean` is what each one's decayed mean in the pool
    falls by, in units (see `credit`)."""

    job: int
    beneficiary: int
    pool: str
    teams: tuple[int, ...]
    lost: int
    mean: int


@dataclass(frozen=True, slots=True)
class Recut:
    """Change the MIG layout of one card, on parts that nobody holds: first destroy, then create. It comes before the
    Place that needs it: the node makes the instance, then starts the container in it."""

    gpu: int
    node: int
    destroy: tuple[Instance, ...]
    create: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Reserve:
    """From `at` on these parts are kept for a blocked job; nothing that started later in the queue may move it."""

    job: int
    at: int
    parts: tuple[Part, ...]
    pool: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """A code and its numbers, shared by all jobs that wait for the same thing. Integers only; `explain` makes the
    words."""

    code: HoldCode
    numbers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """A job goes on waiting. `Plan.holds` lists them in the order of the queue: the first is next."""

    job: int
    version: int
    cause: Cause

    @property
    def code(self) -> HoldCode:
        return self.cause.code

    @property
    def numbers(self) -> tuple[tuple[str, int], ...]:
        return self.cause.numbers


@dataclass(frozen=True, slots=True)
class Plan:
    """One cycle's decisions. `claims` are the new ones; a claim of the snapshot that a Place fulfils, whose job is
    gone or that has expired ends by itself."""

    stops: tuple[Stop, ...] = ()
    suspends: tuple[Suspend, ...] = ()
    recuts: tuple[Recut, ...] = ()
    places: tuple[Place, ...] = ()
    claims: tuple[Claim, ...] = ()
    credits: tuple[Credit, ...] = ()
    reserves: tuple[Reserve, ...] = ()
    holds: tuple[Hold, ...] = ()
