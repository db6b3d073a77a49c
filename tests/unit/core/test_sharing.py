"""Guarantees, borrowing, reclaiming: the examples of the quota section, each drawn."""

from dataclasses import replace

import pytest

from scheduling.core.cluster import Outcome, Past, Quota, Team, requeued
from scheduling.core.decisions import HoldCode
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.core.plan import plan
from scheduling.core.policy import Policy, SizeRule, Tier
from scheduling.core.quota import CyclicTeams
from scheduling.core.units import GPU_UNITS
from tests.pictures import ask, cluster, letter

RED, BLUE, GREEN = 1, 2, 3
NOW = 1000


def team(number, gpus=0, *, parent=0, **more):
    return Team(number, f"t{number}", parent, (Quota("gpu", guaranteed=gpus * GPU_UNITS, **more),))


def jobs(count, *, of, gpus=1, start=1, **more):
    return [ask(start + n, gpus=gpus, team=of, user=of * 10, **more) for n in range(count)]


def started(outcome):
    return sorted(place.job for place in outcome.places)


def evicted(outcome):
    return sorted(stop.job for stop in outcome.stops if stop.reason is EndReason.EVICT)


def codes(outcome):
    return {hold.job: hold.code for hold in outcome.holds}


def by_team(world, outcome):
    asked = {a.job: a for a in world.asks}
    count = {}
    for place in outcome.places:
        count[asked[place.job].team] = count.get(asked[place.job].team, 0) + 1
    return count


def forty_thirty_ten(*asks, picture="n1 .......... | n2 ..........", **more):
    """40 %, 30 %, 10 % of 20 GPUs are 8, 6 and 2; the other 4 are the overflow that all share."""
    teams = tuple(
        Team(number, f"t{number}", 0, (Quota("gpu", percent_milli=percent * 1000, weight=weight),))
        for number, percent, weight in ((RED, 40, 4), (BLUE, 30, 3), (GREEN, 10, 1))
    )
    return cluster(picture, *asks, teams=teams, **more)


def test_everybody_gets_the_guarantee_and_the_overflow_goes_by_weight():
    world = forty_thirty_ten(*jobs(20, of=RED), *jobs(20, of=BLUE, start=101), *jobs(20, of=GREEN, start=201))
    shares = by_team(world, plan(world, Policy(), NOW))
    assert shares == {RED: 10, BLUE: 8, GREEN: 2}


def test_a_team_alone_borrows_everything():
    world = forty_thirty_ten(*jobs(25, of=GREEN))
    assert by_team(world, plan(world, Policy(), NOW)) == {GREEN: 20}


def test_a_smaller_pool_shrinks_a_percentage_at_once():
    world = forty_thirty_ten(*jobs(20, of=RED, preemptible=False), picture="n1 .......... | n2! ..........")
    assert by_team(world, plan(world, Policy(), NOW)) == {RED: 4}


def test_the_owner_reclaims_from_a_borrower_and_waits_for_its_claim():
    green = ask(9, gpus=1, team=GREEN, user=7)
    world = forty_thirty_ten(
        *jobs(1, of=RED, gpus=2),
        picture="n1 abcdefghij | n2 klmnopqrst",
        drawn=dict.fromkeys("abcdefghijklmnopqrst", green),
    )
    outcome = plan(world, Policy(), NOW)
    assert len(evicted(outcome)) == 2
    assert codes(outcome)[1] is HoldCode.CLAIMED
    (claim,) = outcome.claims
    assert claim.job == 1
    assert set(claim.victims) == set(evicted(outcome))
    # The claim bars everyone else while its victims go, and its job starts when they are gone.
    going = tuple(replace(run, state=JobState.STOPPING) if run.job in claim.victims else run for run in world.runs)
    waiting = replace(world, runs=going, claims=(claim,), asks=(*world.asks, *jobs(1, of=BLUE, start=50)))
    later = plan(waiting, Policy(), NOW + 10)
    assert codes(later)[1] is HoldCode.CLAIMED
    assert not set(evicted(later)) & set(claim.victims)
    gone = replace(world, runs=tuple(r for r in world.runs if r.job not in claim.victims), claims=(claim,))
    (place,) = plan(gone, Policy(), NOW + 40).places
    assert (place.job, place.parts) == (1, claim.parts)


def test_guaranteed_work_is_never_reclaimed():
    mine = ask(9, gpus=1, team=BLUE, user=7)
    world = cluster(
        "n1 aabb", *jobs(1, of=RED, gpus=2), teams=(team(RED, 2), team(BLUE, 4)), drawn={"a": mine, "b": mine}
    )
    assert evicted(plan(world, Policy(), NOW)) == []


def test_work_that_may_not_be_evicted_fits_the_guarantees_above_it_too():
    teams = (team(1, 8), team(2, 8, parent=1), team(3, 8))
    world = cluster(
        "n1 ........ | n2 ........", ask(1, gpus=8, team=1, preemptible=False), ask(2, gpus=8, team=2, preemptible=False),
        teams=teams,
    )  # fmt: skip
    outcome = plan(world, Policy(), NOW)
    assert started(outcome) == [2]
    (hold,) = outcome.holds
    assert (hold.code, dict(hold.numbers)["used"], dict(hold.numbers)["limit"]) == (
        HoldCode.GUARANTEE_USED, 8 * GPU_UNITS, 8 * GPU_UNITS,
    )  # fmt: skip


def test_a_cap_per_member_holds_for_all_teams_below():
    capped = replace(team(1, 8), quotas=(Quota("gpu", guaranteed=8 * GPU_UNITS, user_limit=2 * GPU_UNITS),))
    teams = (capped, team(2, 4, parent=1), team(3, 4, parent=1))
    mine = [ask(n, gpus=1, team=2 + n % 2, user=7) for n in (1, 2, 3)]
    outcome = plan(cluster("n1 ........", *mine, ask(4, gpus=1, team=2, user=8), teams=teams), Policy(), NOW)
    assert started(outcome) == [1, 2, 4]
    (hold,) = outcome.holds
    assert (hold.code, dict(hold.numbers)["used"]) == (HoldCode.USER_LIMIT, 2 * GPU_UNITS)


def test_work_that_may_not_be_evicted_never_borrows():
    world = cluster("n1 ....", *jobs(3, of=RED, preemptible=False), teams=(team(RED, 2), team(BLUE, 2)))
    outcome = plan(world, Policy(), NOW)
    assert len(started(outcome)) == 2
    assert set(codes(outcome).values()) == {HoldCode.GUARANTEE_USED}


def test_limits_of_a_department_bind_the_teams_below_it():
    teams = (team(10, 2, borrow_limit=GPU_UNITS), team(RED, 1, parent=10), team(BLUE, 1, parent=10), team(GREEN, 0))
    world = cluster("n1 ........", *jobs(4, of=RED), *jobs(4, of=BLUE, start=11), teams=teams)
    outcome = plan(world, Policy(), NOW)
    assert len(started(outcome)) == 3
    assert set(codes(outcome).values()) == {HoldCode.TEAM_LIMIT}


def test_what_a_team_does_not_lend_stays_free_for_it():
    teams = (team(RED, 3, lend_limit=GPU_UNITS), team(BLUE, 1))
    world = cluster("n1 ....", *jobs(4, of=BLUE), teams=teams)
    assert len(started(plan(world, Policy(), NOW))) == 2


def test_one_member_may_use_only_so_much():
    world = cluster("n1 ....", *jobs(4, of=RED), teams=(team(RED, 4, user_limit=2 * GPU_UNITS),))
    outcome = plan(world, Policy(), NOW)
    assert len(started(outcome)) == 2
    assert set(codes(outcome).values()) == {HoldCode.USER_LIMIT}


def test_members_of_a_team_share_it_however_many_jobs_one_submits():
    flood = [ask(n, gpus=1, team=RED, user=11) for n in range(1, 21)]
    world = cluster("n1 ....", *flood, *(ask(n, gpus=1, team=RED, user=12) for n in (31, 32)), teams=(team(RED, 4),))
    assert {31, 32} <= set(started(plan(world, Policy(), NOW)))


def test_a_borrower_takes_from_a_larger_borrower_until_shares_are_even_and_no_further():
    teams = (team(RED), team(BLUE), team(GREEN, 1))
    large = ask(9, gpus=1, team=BLUE, user=7)
    world = cluster("n1 abcd", *jobs(4, of=RED), teams=teams, drawn=dict.fromkeys("abcd", large))
    assert len(evicted(plan(world, Policy(), NOW))) == 2


def test_a_higher_tier_takes_from_a_lower_of_its_own_team():
    batch = ask(9, gpus=1, team=RED, user=7, tier="batch")
    normal = ask(9, gpus=1, team=RED, user=7)
    world = cluster(
        "n1 ab", ask(1, gpus=1, team=RED, tier="production"), teams=(team(RED, 2),), drawn={"a": normal, "b": batch}
    )
    assert evicted(plan(world, Policy(), NOW)) == [letter("b")]


def test_critical_work_takes_guaranteed_work_only_inside_its_own_guarantee():
    policy = Policy(tiers=(Tier("critical", critical=True), Tier("normal"), Tier("batch")))
    theirs = ask(9, gpus=1, team=BLUE, user=7)
    drawn = dict.fromkeys("ab", theirs)
    for guaranteed, victims in ((1, 1), (0, 0)):
        teams = (team(RED, guaranteed), team(BLUE, 2))
        world = cluster("n1 ab", ask(1, gpus=1, team=RED, tier="critical"), teams=teams, drawn=drawn)
        assert len(evicted(plan(world, policy, NOW))) == victims


def test_the_least_work_is_lost():
    theirs = ask(9, gpus=1, team=BLUE, user=7)
    world = cluster("n1 ab", *jobs(1, of=RED), teams=(team(RED, 1), team(BLUE, 0)), drawn=dict.fromkeys("ab", theirs))
    old, young = world.runs
    world = replace(world, runs=(old, replace(young, running_at=NOW - 5)))
    assert evicted(plan(world, Policy(), NOW)) == [young.job]


def test_work_within_its_minimum_runtime_is_left_alone():
    theirs = ask(9, gpus=1, team=BLUE, user=7, min_runtime_s=2000)
    world = cluster("n1 a", *jobs(1, of=RED), teams=(team(RED, 1), team(BLUE, 0)), drawn={"a": theirs})
    assert evicted(plan(world, Policy(), NOW)) == []
    assert evicted(plan(world, Policy(), 2001)) == [letter("a")]


def test_an_evicted_job_evicts_nobody_for_a_while():
    theirs = ask(9, gpus=1, team=BLUE, user=7)
    world = cluster("n1 a", teams=(team(RED, 1), team(BLUE, 0)), drawn={"a": theirs})
    calm = requeued(world.runs[0], now=NOW, outcome=Outcome.EVICTED, no_evict_s=600)
    calm = replace(calm, job=1, team=RED)
    assert evicted(plan(replace(world, asks=(calm,)), Policy(), NOW + 599)) == []
    assert evicted(plan(replace(world, asks=(calm,)), Policy(), NOW + 600)) == [letter("a")]


def test_suspendable_work_is_suspended_instead_of_stopped():
    theirs = ask(9, gpus=1, team=BLUE, user=7, suspendable=True, saved_mib=20_480)
    world = cluster("n1 a", *jobs(1, of=RED), teams=(team(RED, 1), team(BLUE, 0)), drawn={"a": theirs})
    outcome = plan(world, Policy(), NOW)
    assert [(s.job, s.beneficiary) for s in outcome.suspends] == [(letter("a"), 1)]
    assert outcome.stops == ()


def test_jobs_of_one_team_take_turns_least_served_first():
    policy = Policy(
        tiers=(Tier("batch", rotate=True, size_rule=SizeRule.ATTAINED),), turn_s=600, attained_base=GPU_UNITS * 600
    )
    served = ask(9, gpus=1, team=RED, tier="batch", suspendable=True, saved_mib=4096, limit=90_000)
    world = cluster("n1 a", ask(1, gpus=1, team=RED, tier="batch"), teams=(team(RED, 1),), drawn={"a": served})
    assert plan(world, policy, 599).suspends == ()
    assert [s.job for s in plan(world, policy, 700).suspends] == [letter("a")]
    fresh = replace(world, asks=(replace(world.asks[0], attained=GPU_UNITS * 6000),))
    assert plan(fresh, policy, 700).suspends == ()


def test_past_use_above_the_guarantee_counts_against_a_team_and_fades():
    teams = (team(RED), team(BLUE), team(GREEN, 1))
    world = cluster(
        "n1 . | n2 a",
        *jobs(1, of=RED),
        *jobs(1, of=BLUE, start=2),
        teams=teams,
        drawn={"a": ask(9, gpus=1, team=GREEN)},
    )
    assert started(plan(world, Policy(), NOW)) == [1]
    used = replace(world, past=(Past(RED, 0, "gpu", 5 * GPU_UNITS, NOW),))
    assert started(plan(used, Policy(), NOW)) == [2]
    assert started(plan(used, Policy(), NOW + 400 * 7 * 86_400)) == [1]


def test_a_cycle_in_the_team_tree_is_refused():
    with pytest.raises(CyclicTeams):
        plan(cluster("n1 .", teams=(team(1, parent=2), team(2, parent=1))), Policy(), 0)


def test_a_person_at_his_own_limit_does_not_keep_a_colleague_from_evicting():
    """The first person comes first, because the second has had more in the past, but is at the limit."""
    asks = (ask(number, gpus=1, team=RED, user=number, tier="production") for number in (1, 2))
    drawn = {"a": ask(8, gpus=1, team=RED, user=1, tier="production"), "b": ask(9, gpus=1, team=RED, user=3)}
    world = cluster("n1 ab", *asks, teams=(team(RED, 2, user_limit=GPU_UNITS),), drawn=drawn)
    world = replace(world, past=(Past(RED, 2, "gpu", 5 * GPU_UNITS, NOW),))
    assert evicted(plan(world, Policy(), NOW)) == [letter("b")]
