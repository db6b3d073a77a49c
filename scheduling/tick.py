"""One scheduling cycle: lock, load, plan, enact. Nothing else in Berth gives a job a slot."""

import logging
from dataclasses import dataclass

from portal.kernel import clock
from portal.kernel.locks import one_at_a_time
from scheduling.core.plan import plan
from scheduling.enact import Outcome, enact
from scheduling.snapshot import load_cluster, seconds
from scheduling.wiring import wired

log = logging.getLogger("berth.tick")


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle did. `led` is False when somebody else was in the middle of one."""

    led: bool
    waiting: int = 0
    seconds: float = 0.0
    outcome: Outcome | None = None


def tick() -> Cycle:
    """Run one cycle unless another is under way anywhere in the installation."""
    started = clock.monotonic()
    with one_at_a_time("tick") as mine:
        if not mine:
            return Cycle(led=False)
        now = clock.now()
        cluster = load_cluster(now)
        outcome = enact(plan(cluster, wired().policy, seconds(now)), now=now)
        return Cycle(led=True, waiting=len(cluster.asks), seconds=clock.monotonic() - started, outcome=outcome)
