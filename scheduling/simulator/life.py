"""What becomes of one job of a trace while it is replayed."""

from dataclasses import dataclass

from scheduling.core.cluster import Ask, Run
from scheduling.simulator.history import Record


@dataclass(slots=True)
class Life:
    """A job that is waiting or running: what it has done in this attempt, and what is still to do."""

    record: Record
    ran_s: int = 0
    left_s: int | None = None
    attempt: int = 0
    run: Run | None = None
    ask: Ask | None = None
