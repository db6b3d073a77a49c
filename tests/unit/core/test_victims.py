"""Which victims: where cards are cut, and for a job that was itself one."""

from dataclasses import replace

import pytest

from scheduling.core import mig
from scheduling.core.cluster import Cluster, Gpu, Instance, Node, Part, Piece, Quota, Run, Team
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from scheduling.core.units import GPU_UNITS
from tests.pictures import ask, cluster

H100 = "NVIDIA H100 80GB HBM3"
NOW = 1000
TEAMS = (Team(1, "owner", 0, (Quota("gpu", guaranteed=GPU_UNITS),)), Team(2, "red"), Team(3, "blue"))


def instance(job, team, profile, start, **more):
    piece = Piece(1, mig.PROFILES[H100][profile].units, profile, start)
    return Run(ask(job, mig=profile, team=team, **more), (Part(1, (piece,)),), NOW - 100, running_at=NOW - 100)


@pytest.mark.parametrize(("teams", "wish"), [((2, 3), "4g.40gb"), ((2, 2), "4g.40gb"), ((2, 3), "3g.40gb")])
def test_what_was_stranded_beside_the_one_that_goes_need_not_be_taken_from_another(teams, wish):
    """Beside two instances of three slices a slice of the card is of no use to anybody; beside one of them it is."""
    layout = (Instance("3g.40gb", 0), Instance("3g.40gb", 4))
    node = Node(1, "n1", "gpu", 64_000, 256_000, (Gpu(1, H100, 81_920, mig=True, layout=layout),))
    runs = (instance(11, teams[0], "3g.40gb", 0), instance(12, teams[1], "3g.40gb", 4))
    outcome = plan(Cluster((node,), (ask(1, mig=wish, team=1),), runs, teams=TEAMS), Policy(), NOW)
    assert [stop.job for stop in outcome.stops] == [11]
    (claim,) = outcome.claims
    assert [(piece.profile, piece.start) for part in claim.parts for piece in part.pieces] == [(wish, 0)]


FELL_AT = NOW - 700
RED, BLUE, GREEN = 2, 3, 1


def evenly(*asks, since, owed=0):
    """Blue has four cards beyond any guarantee, red has none, and green owns one card that it does not use."""
    teams = (*TEAMS[:1], Team(RED, "red", 0, (Quota("gpu", guaranteed=owed * GPU_UNITS),)), TEAMS[2])
    return cluster("n1 abcd", *asks, teams=teams, drawn=dict.fromkeys("abcd", ask(9, gpus=1, team=BLUE)), since=since)


def fallen(job):
    """It was evicted at FELL_AT, and is free to evict again."""
    return replace(ask(job, gpus=1, team=RED), may_evict_from=FELL_AT + Policy().no_evict_s)


@pytest.mark.parametrize(("since", "owed", "victims"), [
    (FELL_AT - 1, 0, 1), (FELL_AT, 0, 0), (FELL_AT + 91, 0, 0), (FELL_AT + 92, 0, 1), (FELL_AT, 1, 1),
])  # fmt: skip
def test_a_job_that_was_evicted_takes_from_those_who_followed_it_only_what_it_is_owed(since, owed, victims):
    """To even out shares is no reason to swap places once more with whoever it fell for."""
    outcome = plan(evenly(fallen(1), since=since, owed=owed), Policy(), NOW)
    assert len(outcome.stops) == victims


def test_a_colleague_who_is_like_it_and_was_not_evicted_takes_for_all_that():
    outcome = plan(evenly(fallen(1), fallen(2), ask(3, gpus=1, team=RED), since=FELL_AT), Policy(), NOW)
    assert [claim.job for claim in outcome.claims] == [3]


def test_whoever_fell_at_another_time_has_other_followers():
    later = replace(fallen(2), may_evict_from=NOW)
    outcome = plan(evenly(fallen(1), later, since=FELL_AT + 1), Policy(), NOW)
    assert [claim.job for claim in outcome.claims] == [2]


def holders(*held):
    """Runs of whole cards: (job, node, cards, since, and of which team and tier)."""
    return tuple(
        Run(
            ask(job, gpus=len(cards), **more),
            (Part(node, tuple(Piece(card, GPU_UNITS) for card in cards)),),
            since,
            running_at=since,
        )
        for job, node, cards, since, more in held
    )


def nodes_of_cards(*counts):
    """Nodes with so many cards each, numbered through."""
    numbers = iter(range(1, sum(counts) + 1))
    return tuple(
        Node(n, f"n{n}", "gpu", 64_000, 256_000, tuple(Gpu(next(numbers), H100, 81_920) for _ in range(count)))
        for n, count in enumerate(counts, start=1)
    )


def test_whoever_goes_for_a_limit_alone_may_lie_on_another_node_than_the_free_place():
    """The team is limited to three cards and has two. For an ask of two one batch job less is enough, because two
    cards are free; for a place on the node of the batch jobs both would have to go."""
    limited = (Team(1, "owner", 0, (Quota("gpu", guaranteed=3 * GPU_UNITS, borrow_limit=0),)), *TEAMS[1:])
    runs = holders((11, 2, (3,), 900, {"tier": "batch"}), (12, 2, (4,), 900, {"tier": "batch"}))
    outcome = plan(Cluster(nodes_of_cards(2, 2), (ask(1, gpus=2),), runs, teams=limited), Policy(), NOW)
    assert [stop.job for stop in outcome.stops] == [11]
    assert [part.node for claim in outcome.claims for part in claim.parts] == [1]


@pytest.mark.parametrize("elsewhere", [0, 1])
def test_what_its_own_team_gives_up_for_a_job_may_be_what_others_then_owe_it(elsewhere):
    """The owner of two cards wants both of a node, where one is its own batch job's and one is lent. With the batch job
    gone it is owed the other one, unless it has a third card elsewhere that stays."""
    owner = (Team(1, "owner", 0, (Quota("gpu", guaranteed=2 * GPU_UNITS),)), *TEAMS[1:])
    runs = holders((11, 1, (1,), 900, {"tier": "batch"}), (12, 1, (2,), 900, {"team": 2}))
    runs += holders((13, 2, (3,), 900, {}))[:elsewhere]
    policy = Policy(balance=False)
    outcome = plan(Cluster(nodes_of_cards(2, 1), (ask(1, gpus=2),), runs, teams=owner), policy, NOW)
    assert [stop.job for stop in outcome.stops] == ([] if elsewhere else [11, 12])
