"""What one cycle decides. Every waiting job gets exactly one Place or one Hold with a reason."""

from dataclasses import dataclass
from enum import StrEnum

from scheduling.core.lifecycle import EndReason


class HoldCode(StrEnum):
    """Why a job waits. The numbers that go with each code are named in `explain.SENTENCES`."""

    NO_NODES = "no_nodes"              # no node accepts work now
    NEVER_FITS = "never_fits"          # larger than any node; refused at submit, may come true when nodes leave
    GPUS_BUSY = "gpus_busy"
    CPU_BUSY = "cpu_busy"
    MEMORY_BUSY = "memory_busy"
    BEHIND = "behind"                  # it would fit, but an older job is first


@dataclass(frozen=True, slots=True)
class Part:
    """One replica's place. `slots` is empty for work that needs no GPU."""

    node: int
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    job: int
    version: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    job: int
    version: int
    reason: EndReason


@dataclass(frozen=True, slots=True)
class Hold:
    """`position`: 1 for the job that is next. `numbers`: facts for the sentence, integers only."""

    job: int
    version: int
    code: HoldCode
    position: int
    numbers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    stops: tuple[Stop, ...] = ()
    places: tuple[Place, ...] = ()
    holds: tuple[Hold, ...] = ()
