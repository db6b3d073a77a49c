"""Rotation in random worlds: every turn is lossless, lasts its time, and is never taken back by another right."""

import os
from dataclasses import replace

from hypothesis import given, settings

from scheduling.core.policy import SizeRule, Tier
from scheduling.core.units import GPU_UNITS
from tests.properties import test_plan_properties as properties
from tests.properties.test_plan_properties import THOROUGH
from tests.properties.toy import Toy
from tests.properties.worlds import stories

TIERS = (Tier("production"), Tier("normal"), Tier("batch", rotate=True, size_rule=SizeRule.ATTAINED))
#: TEST_LOOPS=10000 looks into so many random worlds
LOOPS = settings(THOROUGH, max_examples=int(os.environ.get("TEST_LOOPS", "6")))


def everything(before, outcome, toy):
    """The invariants of every plan, but for one: work that its team is owed may have to wait for its turn, as long as
    it is the team's own work that goes on instead, of the same tier or a higher one."""
    properties.check_one_decision_each(before, outcome, toy)
    properties.check_nothing_is_held_twice(before, outcome, toy)
    properties.check_gangs_are_whole(before, outcome, toy)
    properties.check_no_limit_is_exceeded(before, outcome, toy)
    properties.check_victims_have_a_beneficiary(before, outcome, toy)
    asked = {ask.job: ask for ask in before.asks}
    for claim in outcome.claims:
        for victim in claim.victims:
            run, account = toy.planner.runs[victim], toy.planner.account(claim.pool, toy.planner.runs[victim].ask.team)
            if run.ask.team == asked[claim.job].team:
                assert toy.planner.queue.tier_of(run.ask) >= toy.planner.queue.tier_of(asked[claim.job])
            else:
                assert account.used > account.guaranteed


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
    toy = Toy(cluster, policy)
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
