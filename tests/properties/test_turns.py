"""Rotation in random worlds: every turn is lossless, lasts its time, and is never taken back by another right."""

import os
from dataclasses import replace

from hypothesis import given, settings

from scheduling.core.lifecycle import JobState
from scheduling.core.policy import SizeRule, Tier
from scheduling.core.units import GPU_UNITS
from tests.properties.test_plan_properties import THOROUGH, everything
from tests.properties.toy import Toy
from tests.properties.worlds import stories

TIERS = (Tier("production"), Tier("normal"), Tier("batch", rotate=True, size_rule=SizeRule.ATTAINED))
#: BERTH_LOOPS=10000 looks into so many random worlds
LOOPS = settings(THOROUGH, max_examples=int(os.environ.get("BERTH_LOOPS", "10")))


class Turning(Toy):
    """A cluster in fast motion that counts the service of whoever is suspended."""

    def _leave(self, run) -> None:
        super()._leave(run)
        if run.state is JobState.SUSPENDING:
            units = self.planner.units_of(run.parts[0], run.pool)
            waiting = self.planner.queue.asks[run.job]
            served = units * (run.since - run.running_at)
            self.planner.submit(replace(waiting, attained=waiting.attained + served))


def with_turns(story):
    """The story in a world that rotates: long jobs, most of which can be suspended."""
    cluster, policy, steps = story
    steps = [
        (seconds, [replace(ask, limit_s=ask.limit_s * 10, suspendable=ask.job % 4 > 0, saved_mib=2048, tier="batch")
                   if ask.job % 3 else ask for ask in jobs])
        for seconds, jobs in steps
    ]  # fmt: skip
    return cluster, replace(policy, tiers=TIERS, turn_s=600, attained_base=GPU_UNITS * 300), steps


@LOOPS
@given(stories(most_jobs=10))
def test_nobody_takes_a_card_back_before_its_turn_is_over(story):
    cluster, policy, steps = with_turns(story)
    toy = Turning(cluster, policy)
    for seconds, jobs in steps:
        for ask in jobs:
            toy.submit(ask)
        toy.step(seconds, everything)
    for _ in range(20):
        toy.step(200, everything)
    for first, beneficiary, victim in toy.evictions:
        for later, back, again in toy.evictions:
            swapped = (back, again) == (victim, beneficiary)
            assert not (first < later < first + policy.turn_s and swapped), toy.evictions
