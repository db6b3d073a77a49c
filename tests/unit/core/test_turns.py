"""Rotation: suspendable jobs of a tier that rotates share cards in turns, within a team and among borrowers."""

from dataclasses import replace
from itertools import pairwise

from scheduling.core.cluster import Quota, Team
from scheduling.core.plan import plan
from scheduling.core.policy import Policy, SizeRule, Tier
from scheduling.core.queue import size_of
from scheduling.core.units import GPU_UNITS
from tests.pictures import ask, cluster, letter
from tests.properties.toy import Toy

RED, BLUE, GREEN = 1, 2, 3
TURNS = Policy(
    tiers=(Tier("batch", rotate=True, size_rule=SizeRule.ATTAINED),), turn_s=600, attained_base=GPU_UNITS * 600
)
LATER = 4000


def team(number, gpus=0, *, parent=0, **more):
    return Team(number, f"t{number}", parent, (Quota("gpu", guaranteed=gpus * GPU_UNITS, **more),))


def job(number, *, team, gpus=1, **more):
    kept = {"suspendable": True, "saved_mib": 4096, "limit": 90_000}
    return ask(number, gpus=gpus, team=team, user=team * 10, tier="batch", **(kept | more))


def turned(outcome):
    return [(suspend.job, suspend.beneficiary) for suspend in outcome.suspends]


def test_jobs_of_one_team_take_turns_least_served_first():
    world = cluster("n1 a", job(1, team=RED), teams=(team(RED, 1),), drawn={"a": job(9, team=RED)})
    assert turned(plan(world, TURNS, 599)) == []
    assert turned(plan(world, TURNS, 700)) == [(letter("a"), 1)]
    served = replace(world, asks=(replace(world.asks[0], attained=GPU_UNITS * 6000),))
    assert turned(plan(served, TURNS, 700)) == []


def test_borrowers_of_two_teams_take_turns_on_the_card_that_neither_is_owed():
    """Balance would not give it away: the asking team would then have the larger share."""
    world = cluster("n1 a", job(1, team=RED), teams=(team(RED), team(BLUE)), drawn={"a": job(9, team=BLUE)})
    assert turned(plan(world, TURNS, 599)) == []
    assert turned(plan(world, TURNS, 700)) == [(letter("a"), 1)]
    still = Policy(tiers=(Tier("batch", size_rule=SizeRule.ATTAINED),), turn_s=600, attained_base=GPU_UNITS * 600)
    assert turned(plan(world, still, LATER)) == []


def test_who_has_had_more_service_gets_no_turn():
    served = job(1, team=RED, attained=GPU_UNITS * 9000)
    world = cluster("n1 a", served, teams=(team(RED), team(BLUE)), drawn={"a": job(9, team=BLUE)})
    assert turned(plan(world, TURNS, LATER)) == []


def test_guaranteed_work_gives_no_turn_to_another_team():
    world = cluster("n1 a", job(1, team=RED), teams=(team(RED), team(BLUE, 1)), drawn={"a": job(9, team=BLUE)})
    assert turned(plan(world, TURNS, LATER)) == []


def test_the_card_stays_with_the_team_that_has_no_larger_share():
    drawn = {"a": job(8, team=BLUE), "b": job(9, team=RED)}
    world = cluster("n1 ab", job(1, team=RED), teams=(team(RED), team(BLUE)), drawn=drawn)
    assert turned(plan(world, TURNS, LATER)) == [(letter("b"), 1)]  # its own team's
    alone = cluster("n1 ab", job(1, team=RED), teams=(team(RED), team(BLUE)), drawn=drawn | {"b": job(9, team=GREEN)})
    assert turned(plan(alone, TURNS, LATER)) == [(letter("a"), 1)]


def test_shares_are_compared_by_weight():
    """Red has two cards and blue one: by count red's share is the larger, with three times blue's weight it is not, but
    then blue's is gone when its only card is."""
    drawn = {"a": job(8, team=BLUE), "c": job(7, team=BLUE), "b": job(9, team=RED, suspendable=False)}
    for weight, expected in ((1, []), (3, [(letter("a"), 1)])):
        world = cluster("n1 abbc", job(1, team=RED), teams=(team(RED, weight=weight), team(BLUE)), drawn=drawn)
        assert turned(plan(world, TURNS, LATER)) == expected
    alone = cluster("n1 abb", job(1, team=RED), teams=(team(RED, weight=3), team(BLUE)), drawn=drawn)
    assert turned(plan(alone, TURNS, LATER)) == []


def test_a_turn_lasts_twenty_times_what_suspending_and_resuming_cost():
    """60 GiB: 37 s to save at 1,650 MiB/s, 13 s to load at 4,600, 2 s for the rest; 20 times 52 s."""
    heavy = job(9, team=BLUE, saved_mib=60 * 1024)
    world = cluster("n1 a", job(1, team=RED), teams=(team(RED), team(BLUE)), drawn={"a": heavy})
    assert turned(plan(world, TURNS, 1040)) == []
    assert turned(plan(world, TURNS, 1041)) == [(letter("a"), 1)]


def test_departments_take_turns_by_their_own_shares():
    """Judged where the two teams' ways part: blue's department borrows less than red's, so blue's team is asked last."""
    teams = (team(1), team(2), team(3, parent=1), team(4, parent=2))
    drawn = {"a": job(8, team=4), "b": job(9, team=3, suspendable=False)}
    world = cluster("n1 abb", job(1, team=3), teams=teams, drawn=drawn)
    assert turned(plan(world, TURNS, LATER)) == []
    assert turned(plan(replace(world, asks=(job(1, team=5),), teams=(*teams, team(5))), TURNS, LATER)) == [
        (letter("a"), 1)
    ]


def test_turns_grow_longer_until_nobody_is_a_level_above():
    """One card that two borrowing teams want: each is let in again when the other is a level above it; at the last
    level whoever runs stays."""
    toy = Toy(cluster("n1 .", teams=(team(RED), team(BLUE))), TURNS)
    toy.submit(job(1, team=RED))
    toy.submit(job(2, team=BLUE))
    for _ in range(200):
        toy.step(300)
    victims = [victim for _, _, victim in toy.evictions]
    assert victims == [1, 2, 1, 2]  # the first was given up meanwhile, and waits again with the service it has had
    times = [at for at, _, _ in toy.evictions]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) >= TURNS.turn_s
    assert gaps == sorted(gaps)


def test_batch_work_takes_turns_unless_the_policy_says_otherwise():
    world = cluster("n1 a", job(1, team=RED), teams=(team(RED, 1),), drawn={"a": job(9, team=RED)})
    assert turned(plan(world, Policy(), 700)) == [(letter("a"), 1)]
    assert turned(plan(world, Policy(suspend=False), 700)) == []


def test_service_counts_in_levels_of_four_and_the_last_has_no_end():
    policy = replace(TURNS, attained_base=100, attained_levels=4)
    services = (0, 99, 100, 399, 400, 1599, 1600, 10**9)
    assert [size_of(policy, 0, left_s=7, attained=served) for served in services] == [0, 0, 1, 1, 2, 2, 3, 3]
