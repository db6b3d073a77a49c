"""One scheduling cycle: lock, expire, load, plan, enact. Nothing else in Berth gives a job a slot."""

import logging
from dataclasses import dataclass
from functools import partial

from django.db import transaction

from portal.kernel import clock
from portal.kernel.locks import one_at_a_time
from scheduling.core.plan import Planner
from scheduling.core.terms import standings
from scheduling.enact import Outcome, enact
from scheduling.models import Claim
from scheduling.records.claims import expire_claims
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
        if Claim.objects.exists():
            with transaction.atomic():
                expire_claims(now=now)
        cluster = load_cluster(now)
        planner = Planner(wired().policy)
        planner.load(cluster)
        decided = planner.plan(seconds(now))
        # The planner is as before its plan, so it can say on which terms everybody stood in the queue.
        outcome = enact(decided, now=now, terms=partial(standings, planner, seconds(now)))
        return Cycle(led=True, waiting=len(cluster.asks), seconds=clock.monotonic() - started, outcome=outcome)
