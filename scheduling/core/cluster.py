"""One moment of the system, frozen: what there is, what runs, what waits. All amounts are integers.

Seconds are counted from the moment of the snapshot (`Cluster.now` = 0): ages and remaining times, never dates.
"""

from dataclasses import dataclass, field

from scheduling.core.lifecycle import EndReason, JobState


@dataclass(frozen=True, slots=True)
class Slot:
    """A part of a GPU that one job can hold."""

    id: int
    gpu: int
    units: int
    held: bool


@dataclass(frozen=True, slots=True)
class Node:
    """cpu_millis and memory_mib are what the whole machine has; the free ones what nobody holds."""

    id: int
    name: str
    pool: str
    accepts: bool                     # ready: new work may be placed here
    cpu_millis: int
    memory_mib: int
    free_cpu_millis: int
    free_memory_mib: int
    slots: tuple[Slot, ...] = ()
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """A job that waits. Amounts are per replica; all replicas start or none."""

    job: int
    version: int                      # what the plan was made for: enacted only if it is still this one
    team: int
    owner: int
    submitted: int                    # place in the order of submission: older is smaller
    gpus: int
    cpu_millis: int
    memory_mib: int
    replicas: int = 1


@dataclass(frozen=True, slots=True)
class Run:
    """A job that holds something. `in_state_s`: seconds in the present state; `ran_s`: seconds of RUNNING time."""

    job: int
    version: int
    state: JobState
    in_state_s: int
    ran_s: int
    limit_s: int
    stalled_s: int = 0                # while PLACED: seconds since the last sign of progress
    end_reason: EndReason | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    nodes: tuple[Node, ...] = ()
    asks: tuple[Ask, ...] = ()
    runs: tuple[Run, ...] = field(default=())
