"""One scheduling cycle: lock, expire, load, plan, enact. Nothing else in Berth gives a job a slot."""

import logging
from dataclasses import dataclass
from functools import partial

from django.db import transaction

from portal.kernel import clock
from portal.kernel.locks import one_at_a_time
from scheduling.array_ends import end_arrays
from scheduling.core.terms import standings
from scheduling.enact import Outcome, enact
from scheduling.mirror import Mirror
from scheduling.models import Claim
from scheduling.records.arrays import with_rows
from scheduling.records.claims import expire_claims
from scheduling.records.holds import Told
from scheduling.shaping import seconds
from scheduling.wiring import wired

log = logging.getLogger("berth.tick")


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle did. `led` is False when somebody else was in the middle of one."""

    led: bool
    waiting: int = 0
    seconds: float = 0.0
    outcome: Outcome | None = None


class Memory:
    """What whoever runs many cycles keeps from one to the next, so that a cycle reads and writes only what changed."""

    def __init__(self) -> None:
        self.mirror, self.told = Mirror(wired().policy), Told()


def tick(memory: Memory | None = None) -> Cycle:
    """Run one cycle unless another is under way anywhere in the installation. Without a memory it reads everything.
    After an error the memory must not be used again."""
    started = clock.monotonic()
    with one_at_a_time("tick") as mine:
        if not mine:
            return Cycle(led=False)
        memory, now = memory or Memory(), clock.now()
        if Claim.objects.exists():
            with transaction.atomic():
                expire_claims(now=now)
        end_arrays(now=now)
        planner = memory.mirror.catch_up(now)
        waiting = len(planner.queue.asks)
        decided = planner.plan(seconds(now))
        with transaction.atomic():
            # The planner is as before its plan, so it can say on which terms everybody stood in the queue.
            decided, terms = with_rows(decided, partial(standings, planner, seconds(now)), now=now)
            outcome = enact(decided, now=now, terms=terms, told=memory.told)
        return Cycle(led=True, waiting=waiting, seconds=clock.monotonic() - started, outcome=outcome)
