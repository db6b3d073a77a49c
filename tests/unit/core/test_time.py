"""Decay, windows, the calendar, reservations, deadlines, estimates and what-if."""

from dataclasses import replace
from fractions import Fraction

import pytest

from scheduling.core.cluster import Booking, Quota, Team, Window
from scheduling.core.decay import ONE, aged, fading
from scheduling.core.decisions import HoldCode
from scheduling.core.forecast import Alternative, StartRange, estimate_starts, meets_deadline, start_ranges, what_if
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from scheduling.core.remedies import changes_that_would_start
from scheduling.core.terms import terms_of
from scheduling.core.units import GPU_UNITS
from scheduling.core.windows import next_edge, opens_at
from tests.pictures import ask, cluster

POLICY = Policy()
MONDAY = 4 * 86_400  # 5 January 1970


def started(outcome):
    return sorted(place.job for place in outcome.places)


@pytest.mark.parametrize(("age", "part"), [(0, 1), (100, Fraction(1, 2)), (200, Fraction(1, 4)), (300, Fraction(1, 8))])
def test_what_is_past_counts_half_after_each_half_life(age, part):
    assert fading(age, 100) == int(ONE * part)


def test_fading_is_close_to_the_power_of_two_and_only_falls():
    values = [fading(age, 604_800) for age in range(0, 2_000_000, 1009)]
    assert values == sorted(values, reverse=True)
    assert all(
        abs(v / ONE - 2 ** (-a / 604_800)) < 1e-4 for v, a in zip(values, range(0, 2_000_000, 1009), strict=True)
    )


def test_a_mean_moves_to_the_level_that_lasts():
    assert aged(0, 1000, 100, 100) == 500
    assert aged(1000, 0, 100, 100) == 500
    assert aged(7, 7, 12_345, 100) == 7


def test_a_window_over_midnight_belongs_to_the_day_it_starts_on():
    night = (Window((0,), 20 * 3600, 6 * 3600),)
    assert opens_at(night, MONDAY + 19 * 3600) == MONDAY + 20 * 3600
    assert opens_at(night, MONDAY + 21 * 3600) == MONDAY + 21 * 3600
    assert opens_at(night, MONDAY + 29 * 3600) == MONDAY + 29 * 3600
    assert opens_at(night, MONDAY + 31 * 3600) == MONDAY + 7 * 86_400 + 20 * 3600


def test_the_next_edge_is_an_opening_or_a_closing():
    daily, monday = Window(tuple(range(7)), 8 * 3600, 20 * 3600), Window((0,), 0, 86_400)
    assert next_edge([daily], MONDAY + 12 * 3600) == MONDAY + 20 * 3600
    assert next_edge([daily], MONDAY + 20 * 3600) == MONDAY + 32 * 3600
    assert next_edge([daily, monday], MONDAY + 21 * 3600) == MONDAY + 24 * 3600
    assert next_edge([monday], MONDAY + 24 * 3600) == MONDAY + 7 * 86_400
    night = Window((0,), 20 * 3600, 6 * 3600)
    assert next_edge([night], MONDAY + 25 * 3600) == MONDAY + 30 * 3600


def test_a_team_starts_only_while_those_above_it_may_as_well():
    nightly = Window(tuple(range(7)), 22 * 3600, 6 * 3600)
    early = Window(tuple(range(7)), 4 * 3600, 12 * 3600)
    teams = (
        Team(1, "dept", windows=(nightly,)),
        Team(2, "lab", parent=1, windows=(early,)),
        Team(3, "bench", parent=1),
    )
    world = cluster("n1 ..", ask(1, gpus=1, team=2, limit=60), ask(2, gpus=1, team=3, limit=60), teams=teams)
    evening = MONDAY + 18 * 3600
    holds = {hold.job: hold for hold in plan(world, POLICY, evening).holds}
    assert {job: dict(hold.numbers)["opens"] for job, hold in holds.items()} == {
        1: MONDAY + 28 * 3600,  # both are open from 4 to 6
        2: MONDAY + 22 * 3600,
    }
    assert estimate_starts(world, POLICY, evening) == {1: MONDAY + 28 * 3600, 2: MONDAY + 22 * 3600}
    assert started(plan(world, POLICY, MONDAY + 29 * 3600)) == [1, 2]


def test_a_team_starts_work_in_its_window_only():
    team = Team(1, "night", windows=(Window(tuple(range(7)), 20 * 3600, 6 * 3600),))
    world = cluster("n1 .", ask(1, gpus=1), teams=(team,))
    assert plan(world, POLICY, MONDAY + 12 * 3600).holds[0].code is HoldCode.TEAM_WINDOW
    assert started(plan(world, POLICY, MONDAY + 22 * 3600)) == [1]


def test_a_booked_node_is_kept_for_its_team():
    teams = (Team(1, "a"), Team(2, "b"))
    world = cluster("n1 .", ask(1, gpus=1, limit=600), teams=teams)
    booked = replace(world, bookings=(Booking(1, 2, (1,), 1000, 2000),))
    assert started(plan(booked, POLICY, 100)) == [1]
    for now in (500, 1500):
        (hold,) = plan(booked, POLICY, now).holds
        assert hold.code is HoldCode.BOOKED
        assert dict(hold.numbers) == {"booking": 1, "team": 2, "node": 1, "starts": 1000, "ends": 2000}
    assert started(plan(booked, POLICY, 2000)) == [1]
    theirs = replace(booked, asks=(ask(2, gpus=1, team=2),))
    assert started(plan(theirs, POLICY, 1500)) == [2]


def test_a_reservation_says_when_and_where():
    drawn = {"a": ask(9, gpus=1, limit=500, team=9), "b": ask(9, gpus=1, limit=900, team=9)}
    (reserve,) = plan(cluster("n1 ab", ask(1, gpus=2), drawn=drawn), POLICY, 100).reserves
    assert (reserve.job, reserve.at) == (1, 901)


def test_only_the_first_few_of_a_team_reserve():
    world = cluster("n1 a", *(ask(n, gpus=1) for n in range(1, 6)))
    assert [r.job for r in plan(world, Policy(reserve_depth=2), 10).reserves] == [1, 2]


def test_a_deadline_that_can_still_be_met_goes_first_and_a_lost_one_orders_nothing():
    world = cluster("n1 .", ask(1, gpus=1, limit=100), ask(2, gpus=1, limit=100, deadline=1000))
    assert started(plan(world, POLICY, 900)) == [2]
    assert started(plan(world, POLICY, 901)) == [1]


def test_estimates_run_the_same_core_forward():
    world = cluster("n1 a", ask(1, gpus=1, limit=100), ask(2, gpus=1, limit=50), drawn={"a": ask(9, gpus=1, limit=500)})
    assert estimate_starts(world, POLICY, 100) == {1: 501, 2: 601}
    assert estimate_starts(world, POLICY, 100, lasting=lambda a: a.limit_s // 2) == {1: 251, 2: 301}


def test_a_deadline_is_accepted_only_if_the_forward_run_meets_it():
    world = cluster("n1 a", ask(1, gpus=1, limit=100, deadline=650), drawn={"a": ask(9, gpus=1, limit=500)})
    assert not meets_deadline(world, POLICY, 100, ask(2, gpus=1, limit=50, deadline=400))
    assert meets_deadline(world, POLICY, 100, ask(2, gpus=1, limit=50, deadline=700))


def test_what_if_compares_two_clusters_on_the_same_demand():
    world = cluster("n1 a", ask(1, gpus=1), drawn={"a": ask(9, gpus=1, limit=500)})
    larger = replace(world, nodes=(*world.nodes, *cluster("n1 a | n2 .").nodes[1:]))
    found = what_if(world, POLICY, 100, Alternative(nodes=larger.nodes))
    assert (found.starts[0][1], found.starts[1][1]) == (501, 100)
    assert found.waited_s == (401, 0)


def test_what_if_compares_two_sets_of_quotas_on_the_same_demand():
    red, blue = (Team(n, f"t{n}", 0, (Quota("gpu", guaranteed=GPU_UNITS),)) for n in (1, 2))
    world = cluster("n1 a", ask(1, gpus=1, team=1, limit=100), ask(2, gpus=1, team=2, limit=100), teams=(red, blue),
                    drawn={"a": ask(9, gpus=1, team=9, limit=500)})  # fmt: skip
    walls = (red, Team(2, "t2", 0, (Quota("gpu", guaranteed=0, borrow_limit=0),)))
    found = what_if(world, POLICY, 100, Alternative(teams=walls), horizon_s=10_000)
    assert 2 in found.starts[0]
    assert 2 not in found.starts[1]
    policy = Policy(reclaim=False, balance=False)
    assert what_if(world, POLICY, 100, Alternative(policy=policy)).evictions[1] == 0


def test_an_estimate_is_a_range_from_even_odds_to_nine_out_of_ten():
    world = cluster("n1 a", ask(1, gpus=1, limit=100), ask(2, gpus=1, limit=50), drawn={"a": ask(9, gpus=1, limit=500)})
    ranges = start_ranges(world, POLICY, 100, median=lambda a: a.limit_s // 2, late=lambda a: a.limit_s)
    assert ranges == {1: StartRange(251, 501), 2: StartRange(301, 601)}
    never = start_ranges(world, POLICY, 100, median=lambda a: a.limit_s, late=lambda a: a.limit_s, horizon_s=450)
    assert never[2] == StartRange(None, None)


def test_a_later_estimate_is_never_before_the_earlier_one():
    """Runs that last longer can let a job start earlier: then the late answer is the early one."""
    world = cluster("n1 .", ask(1, gpus=1, limit=100), ask(2, gpus=1, limit=50))
    ranges = start_ranges(world, POLICY, 100, median=lambda a: a.limit_s, late=lambda a: 1)
    assert ranges[2] == StartRange(200, 200)


def test_the_forward_run_waits_for_windows_and_for_minimum_runtimes():
    night = Team(1, "night", windows=(Window(tuple(range(7)), 20 * 3600, 6 * 3600),))
    world = cluster("n1 .", ask(1, gpus=1, limit=100), teams=(night,))
    assert estimate_starts(world, POLICY, MONDAY + 12 * 3600) == {1: MONDAY + 20 * 3600}
    owner = Team(1, "owner", 0, (Quota("gpu", guaranteed=GPU_UNITS),))
    theirs = ask(9, gpus=1, team=9, limit=90_000, min_runtime_s=2000)
    kept = cluster("n1 a", ask(1, gpus=1, limit=100), teams=(owner,), drawn={"a": theirs})
    assert estimate_starts(kept, POLICY, 1000)[1] == 2001 + POLICY.grace_s


@pytest.mark.parametrize("hour", [8, 12, 19])
def test_what_does_not_start_before_its_hours_end_is_estimated_at_the_next_opening(hour):
    office = Team(1, "office", windows=(Window(tuple(range(7)), 8 * 3600, 20 * 3600),))
    now = MONDAY + hour * 3600
    until_half_past_eight = ask(9, gpus=1, team=9, limit=(20 - hour) * 3600 + 1800)
    world = cluster("n1 a", ask(1, gpus=1, limit=600), teams=(office,), drawn={"a": until_half_past_eight}, since=now)
    assert estimate_starts(world, POLICY, now) == {1: MONDAY + 32 * 3600}
    urgent = ask(2, gpus=1, limit=600, deadline=MONDAY + 33 * 3600)
    assert meets_deadline(world, POLICY, now, urgent)


def test_what_a_closed_team_had_in_front_is_passed_when_its_hours_end():
    office = Team(1, "office", windows=(Window(tuple(range(7)), 8 * 3600, 20 * 3600),))
    noon, evening = MONDAY + 12 * 3600, MONDAY + 20 * 3600
    gang, late = ask(1, gpus=2, limit=600, tier="production"), ask(2, gpus=1, team=2, limit=50_000)
    drawn = {"a": ask(9, gpus=1, team=9, limit=36_000)}
    world = cluster("n1 a.", gang, late, teams=(office, Team(2, "lab")), drawn=drawn, since=noon)
    assert estimate_starts(world, POLICY, noon)[2] == evening


def test_a_job_that_must_wait_for_its_own_time_is_estimated_at_it():
    assert estimate_starts(cluster("n1 .", ask(1, gpus=1, not_before=700)), POLICY, 100) == {1: 700}


def test_a_new_deadline_may_not_break_one_that_was_accepted():
    accepted = ask(1, gpus=1, limit=100, deadline=620)
    world = cluster("n1 a", accepted, drawn={"a": ask(9, gpus=1, limit=500)})
    hasty = ask(2, gpus=1, limit=50, deadline=601)
    assert not meets_deadline(world, POLICY, 100, hasty)
    assert meets_deadline(replace(world, asks=()), POLICY, 100, hasty)


def test_a_deadline_within_a_closed_window_is_not_accepted():
    night = Team(1, "night", windows=(Window(tuple(range(7)), 20 * 3600, 6 * 3600),))
    noon = MONDAY + 12 * 3600
    world = cluster("n1 .", teams=(night,))
    assert not meets_deadline(world, POLICY, noon, ask(2, gpus=1, limit=50, deadline=noon + 3600))
    assert meets_deadline(world, POLICY, noon, ask(2, gpus=1, limit=50, deadline=noon + 9 * 3600))


def test_suggested_changes_start_the_job():
    drawn = {"a": ask(9, gpus=1, limit=5000, team=9)}
    world = cluster("n1 a... | n2 ....", ask(1, gpus=4, replicas=2, limit=9000), drawn=drawn)
    changes = {c.what: c for c in changes_that_would_start(world, POLICY, 100, 1)}
    assert changes["replicas"].value == "1"
    for change in changes.values():
        assert 1 in started(plan(replace(world, asks=(change.ask,)), POLICY, 100))


def test_a_shorter_limit_is_suggested_where_a_reservation_is_in_the_way():
    drawn = {"a": ask(9, gpus=1, limit=5000, team=9)}
    world = cluster("n1 a.", ask(1, gpus=2), ask(2, gpus=1, limit=9000), drawn=drawn)
    assert [(c.what, c.value) for c in changes_that_would_start(world, POLICY, 100, 2)] == [("limit_s", "4860")]


def test_the_terms_of_a_job_can_be_shown():
    world = cluster("n1 a", ask(1, gpus=1, priority=3, deadline=5000, limit=100))
    terms = terms_of(world, POLICY, 100, 1)
    assert (terms.critical, terms.tier, terms.priority, terms.latest_start) == (False, 1, 3, 4900)
    assert [(outside, unweighted) for outside, unweighted, _ in terms.levels] == [(1, 0)]
    assert terms_of(world, POLICY, 100, 2) is None
