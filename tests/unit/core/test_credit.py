"""Guaranteed work that falls for critical work is credited to its team, in the algebra of the decayed share."""

from dataclasses import replace
from math import log

from scheduling.core.cluster import Past, Quota, Team
from scheduling.core.credit import LN2, fall
from scheduling.core.decay import ONE, aged
from scheduling.core.plan import Planner, plan
from scheduling.core.policy import DAY, Policy, Tier
from scheduling.core.units import GPU_UNITS
from tests.pictures import ask, cluster, letter

RED, BLUE, GREEN, LAB, HOUSE = 1, 2, 3, 11, 12
NOW = 100_000
WEEK = 7 * DAY
POLICY = Policy(tiers=(Tier("urgent", critical=True), Tier("normal"), Tier("batch")))


def team(number, gpus=0, parent=0):
    return Team(number, f"t{number}", parent, (Quota("gpu", guaranteed=gpus * GPU_UNITS),))


def urgent(**more):
    return ask(1, gpus=1, team=RED, user=10, tier="urgent", **more)


def guaranteed(since, tree, *, beneficiary=None, policy=POLICY, now=NOW):
    """Blue has one card within its guarantee since then; red's critical job wants it."""
    run = ask(9, gpus=1, team=BLUE, user=20, limit=WEEK)
    world = cluster("n1 a", beneficiary or urgent(), teams=tree, drawn={"a": run}, since=since)
    return world, plan(world, policy, now)


FLAT = (team(RED, 1), team(BLUE, 1))


def test_the_logarithm_is_exact_to_the_last_binary_digit():
    assert abs(LN2 / ONE - log(2)) < 1 / ONE


def test_the_lost_seconds_of_guaranteed_work_are_credited_to_its_team():
    _, outcome = guaranteed(NOW - 3600, FLAT)
    (credit,) = outcome.credits
    assert (credit.job, credit.beneficiary, credit.pool, credit.teams) == (letter("a"), 1, "gpu", (BLUE,))
    assert credit.lost == 3600 * GPU_UNITS
    assert credit.mean == fall(credit.lost, POLICY.half_life_s)


def test_a_credit_takes_off_what_as_much_use_above_the_guarantee_would_have_added():
    """An hour with one card too many, as the mean counts it, is an hour of one card lost."""
    assert abs(aged(0, GPU_UNITS, 3600, WEEK) - fall(3600 * GPU_UNITS, WEEK)) <= 2


def test_the_credited_share_is_smaller_and_fades_back():
    world, outcome = guaranteed(NOW - 3600, FLAT)
    planner = Planner(POLICY)
    planner.load(world)
    planner.credited(outcome.credits[0], now=NOW)
    account = planner.account("gpu", BLUE)
    assert account.mean == -outcome.credits[0].mean
    later = aged(account.mean, 0, WEEK, WEEK)
    assert later == -(-account.mean // -2) or later == account.mean // 2


def test_a_credited_team_goes_first_among_equals():
    teams = (team(RED), team(BLUE), team(GREEN, 1))
    world = cluster("n1 .", ask(1, gpus=1, team=RED, user=10), ask(2, gpus=1, team=BLUE, user=20), teams=teams)
    assert [p.job for p in plan(world, POLICY, NOW).places] == [1]
    credited = replace(world, past=(Past(BLUE, 0, "gpu", -GPU_UNITS // 8, NOW),))
    assert [p.job for p in plan(credited, POLICY, NOW).places] == [2]


def test_the_credit_stops_below_the_common_ancestor():
    """Red and blue are of one department: it has not lost anything. Across departments the victim's has."""
    (credit,) = guaranteed(NOW - 3600, (team(LAB, 2), team(RED, 1, LAB), team(BLUE, 1, LAB)))[1].credits
    assert credit.teams == (BLUE,)
    tree = (team(LAB, 1), team(HOUSE, 1), team(RED, 1, LAB), team(BLUE, 1, HOUSE))
    (credit,) = guaranteed(NOW - 3600, tree)[1].credits
    assert credit.teams == (HOUSE, BLUE)


def test_borrowed_work_and_the_lower_tiers_of_ones_own_team_earn_no_credit():
    assert guaranteed(NOW - 3600, (team(RED, 1), team(BLUE, 0)))[1].credits == ()
    own = ask(9, gpus=1, team=RED, user=20, tier="batch")
    world = cluster("n1 a", urgent(), teams=(team(RED, 1),), drawn={"a": own}, since=NOW - 60)
    outcome = plan(world, POLICY, NOW)
    assert outcome.stops
    assert outcome.credits == ()


def test_where_the_past_counts_nothing_a_credit_does_not_either():
    outcome = guaranteed(NOW - 3600, FLAT, policy=replace(POLICY, half_life_s=0))[1]
    assert outcome.stops
    assert outcome.credits == ()


def test_suspended_work_is_credited_only_what_its_suspension_costs():
    run = ask(9, gpus=1, team=BLUE, user=20, limit=WEEK, suspendable=True, saved_mib=16_500)
    world = cluster("n1 a", urgent(), teams=FLAT, drawn={"a": run}, since=NOW - 3600)
    (credit,) = plan(world, POLICY, NOW).credits
    assert credit.lost == (2 + 10 + 3) * GPU_UNITS


def test_a_dumped_credit_is_read_again():
    past = Past(BLUE, 0, "gpu", -17, NOW)
    planner = Planner(POLICY)
    planner.load(cluster("n1 .", teams=FLAT))
    planner.load(replace(planner.snapshot(), past=(past,)))
    assert past in planner.snapshot().past
