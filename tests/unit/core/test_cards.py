"""Parts of cards: what MIG allows, what is cut anew, what stays cut, and who shares a card with whom."""

from dataclasses import replace

import pytest

from scheduling.core import mig
from scheduling.core.cluster import Cluster, Instance, Part, Piece, Quota, Run, Team
from scheduling.core.decisions import Lack
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from scheduling.core.units import GPU_UNITS
from tests.cards import H100, H200, card, decide, node, pieces, run, shares
from tests.pictures import ask


@pytest.mark.parametrize(
    ("layout", "fits"),
    [
        ([("3g.40gb", 0), ("3g.40gb", 4)], True),
        ([("4g.40gb", 0), ("3g.40gb", 4)], True),
        ([("4g.40gb", 0), ("4g.40gb", 4)], False),
        ([("1g.10gb", start) for start in range(7)], True),
        ([("2g.20gb", 0), ("3g.40gb", 0)], False),
        ([("1g.10gb+me", 0), ("1g.10gb+me", 1)], False),
        ([("3g.40gb", 2)], False),
    ],
)
def test_the_real_placement_rules_hold(layout, fits):
    assert mig.legal(H100, [Instance(*i) for i in layout]) is fits


def test_two_large_instances_share_a_card_and_a_third_waits():
    outcome = decide([node(card(1))], *(ask(n, mig="3g.40gb") for n in (1, 2, 3)))
    assert pieces(outcome) == {1: [(1, "3g.40gb", 4)], 2: [(1, "3g.40gb", 0)]}
    (recut,) = outcome.recuts
    assert sorted(i.start for i in recut.create) == [0, 4]
    assert outcome.holds[0].code == "slices_busy"


def test_a_gang_that_needs_several_instances_of_one_card_is_promised_them_and_not_overtaken():
    held = Run(ask(9, preemptible=False), (Part(1, (Piece(1, 2_625, "1g.10gb", 0),)),), 1, running_at=1)
    asks = (ask(1, mig="3g.40gb", replicas=2), *(ask(n, mig="1g.10gb") for n in (2, 3, 4)))
    outcome = decide([node(card(1, ("1g.10gb", 0)))], *asks, runs=(held,))
    promised = outcome.reserves[0]
    assert (promised.job, promised.at) == (1, 3601)
    assert [(p.profile, p.start) for part in promised.parts for p in part.pieces] == [("3g.40gb", 4), ("3g.40gb", 0)]
    assert pieces(outcome) == {}


def test_a_free_instance_is_used_before_anything_is_cut():
    outcome = decide([node(card(1), card(2, ("2g.20gb", 2)))], ask(1, mig="2g"))
    assert pieces(outcome) == {1: [(2, "2g.20gb", 2)]}
    assert outcome.recuts == ()


def test_only_free_instances_in_the_way_are_destroyed():
    held = Piece(1, 13_875 - 2_625, "2g.20gb", 0)
    world = node(card(1, ("2g.20gb", 0), ("1g.10gb", 2), ("1g.10gb", 5), ("1g.10gb", 6)))
    (recut,) = decide([world], ask(1, mig="3g.40gb"), runs=(run(9, held),)).recuts
    assert set(recut.destroy) == {Instance("1g.10gb", 5), Instance("1g.10gb", 6)}
    assert recut.create == (Instance("3g.40gb", 4),)


def test_a_free_instance_that_an_earlier_job_cuts_up_is_no_longer_there_for_the_next():
    held = Piece(1, 22_500, "4g.40gb", 0)
    world = node(card(1, ("4g.40gb", 0), ("3g.40gb", 4)))
    outcome = decide([world], ask(1, mig="1g.10gb"), ask(2, mig="3g.40gb"), runs=(run(9, held),))
    assert pieces(outcome) == {1: [(1, "1g.10gb", 6)]}


def test_where_the_policy_forbids_it_nothing_is_cut():
    outcome = decide([node(card(1))], ask(1, mig="1g"), policy=Policy(recut=False))
    assert outcome.places == ()


def test_an_ask_by_slices_takes_the_profile_of_each_model():
    outcome = decide([node(card(1, model=H200, memory=143_360))], ask(1, mig="2g", gpu_memory_mib=30_000))
    assert pieces(outcome)[1][0][1] == "2g.35gb"


def test_a_whole_card_is_taken_uncut_where_there_is_one():
    assert pieces(decide([node(card(1, ("1g.10gb", 0)), card(2))], ask(1, gpus=1)))[1] == [(2, "", 0)]


def test_shares_of_one_team_fill_a_card_before_the_next_is_opened():
    outcome = decide([node(card(1), card(2))], *(ask(n, thousandths=400) for n in (1, 2, 3)))
    assert sorted(cards[0][0] for cards in pieces(outcome).values()) == [1, 1, 2]


def test_two_teams_never_share_a_card():
    outcome = decide([node(card(1), card(2))], ask(1, thousandths=100), ask(2, thousandths=100, team=2))
    assert len({cards[0][0] for cards in pieces(outcome).values()}) == 2


def test_a_gang_of_shares_lies_on_as_few_cards_as_it_can():
    assert shares(decide([node(card(1), card(2))], ask(1, thousandths=500, replicas=2))) == [(1, 500), (1, 500)]
    assert shares(decide([node(card(1), card(2))], ask(1, thousandths=400, replicas=4))) == [
        (1, 400), (1, 400), (2, 400), (2, 400),
    ]  # fmt: skip


def test_a_gang_of_shares_goes_to_the_card_that_its_team_uses_already():
    nodes = [node(card(1), number=1), node(card(2), number=2)]
    shared = Run(ask(9), (Part(2, (Piece(2, 21_000, thousandths=500),)),), 1, running_at=1)
    assert shares(decide(nodes, ask(1, thousandths=250, replicas=2), runs=(shared,))) == [(2, 250), (2, 250)]


def test_a_gang_of_shares_shares_no_card_with_another_team():
    theirs = Run(ask(9, team=2), (Part(1, (Piece(1, 4_200, thousandths=100),)),), 1, running_at=1)
    outcome = decide([node(card(1), card(2))], ask(1, thousandths=250, replicas=2), runs=(theirs,))
    assert shares(outcome) == [(2, 250), (2, 250)]


def test_whoever_is_evicted_for_a_gang_of_shares_leaves_room_for_all_of_it():
    owner, borrower = Team(1, "owner", quotas=(Quota("gpu", guaranteed=GPU_UNITS),)), Team(2, "borrower")
    theirs = [
        Run(ask(n, team=2), (Part(1, (Piece(n, 42_000),), 1000, 1024),), 1, running_at=1, pool="gpu") for n in (1, 2)
    ]
    world = Cluster(
        nodes=(node(card(1), card(2)),), teams=(owner, borrower), runs=tuple(theirs),
        asks=(ask(5, thousandths=500, replicas=2),),
    )  # fmt: skip
    (claim,) = plan(world, Policy(), 1000).claims
    assert (len(claim.victims), len({piece.gpu for part in claim.parts for piece in part.pieces})) == (1, 1)


def test_a_free_card_that_was_cut_serves_a_share_again():
    cut = [node(card(1, ("3g.40gb", 0), ("3g.40gb", 4)))]
    outcome = decide(cut, ask(1, thousandths=500), ask(2, thousandths=500))
    assert shares(outcome) == [(1, 500), (1, 500)]
    (recut,) = outcome.recuts
    assert (len(recut.destroy), recut.create) == (2, ())
    assert not decide(cut, ask(1, thousandths=500), runs=(run(9, Piece(1, 19_500, "3g.40gb", 0)),)).places


def test_a_share_opens_an_uncut_card_before_one_that_must_be_cut_anew():
    assert shares(decide([node(card(1, ("3g.40gb", 0)), card(2))], ask(1, thousandths=500))) == [(2, 500)]
    nodes = [node(card(1, ("3g.40gb", 0)), number=1), node(card(2), card(3), number=2)]
    assert shares(decide(nodes, ask(1, thousandths=500))) == [(2, 500)]


def test_where_fragmentation_is_looked_at_a_free_card_that_was_cut_serves_all_the_same():
    for wish in (ask(1, gpus=1), ask(1, thousandths=500)):
        world = Cluster(nodes=(node(card(1, ("3g.40gb", 0))),), asks=(wish,), mix=((ask(2, thousandths=500).shape, 5),))
        assert len(plan(world, Policy(), 1000).recuts) == 1
        assert not plan(world, Policy(recut=False), 1000).places


STATIC = (("3g.40gb", 0), ("2g.20gb", 4), ("1g.10gb", 6))


@pytest.mark.parametrize(
    ("fixed", "policy"),
    [(card(1, *STATIC), Policy(recut=False)), (replace(card(1, *STATIC), mig=False), Policy())],
    ids=["the policy forbids it", "its pool forbids it"],
)
def test_a_card_that_stays_cut_serves_asks_for_its_instances_and_no_other(fixed, policy):
    def lacking(wish):
        outcome = decide([node(fixed)], wish, policy=policy)
        assert (outcome.places, outcome.recuts) == ((), ())
        return dict(outcome.holds[0].numbers)["lacks"]

    assert lacking(ask(1, gpus=1)) == Lack.CUT
    assert lacking(ask(1, thousandths=100)) == Lack.CUT
    assert lacking(ask(1, mig="4g.40gb")) == Lack.MIG
    wishes = ("3g", "2g.20gb", "1g.10gb", "1g.10gb")
    outcome = decide([node(fixed)], *(ask(n, mig=wish) for n, wish in enumerate(wishes, start=1)), policy=policy)
    assert pieces(outcome) == {1: [(1, "3g.40gb", 0)], 2: [(1, "2g.20gb", 4)], 3: [(1, "1g.10gb", 6)]}
    assert outcome.recuts == ()
    assert [hold.code for hold in outcome.holds] == ["slices_busy"]


def test_beside_cards_that_stay_cut_the_others_serve_whole():
    nodes = [node(card(1, ("1g.10gb", 0)), card(2), number=1), node(card(3), card(4), number=2)]
    outcome = decide(nodes, ask(1, gpus=2), ask(2, gpus=1), ask(3, mig="1g"), policy=Policy(recut=False))
    assert pieces(outcome) == {1: [(3, "", 0), (4, "", 0)], 2: [(2, "", 0)], 3: [(1, "1g.10gb", 0)]}


def test_nobody_is_evicted_from_a_card_that_stays_cut_for_more_than_its_instance():
    owner, borrower = Team(1, "owner", quotas=(Quota("gpu", guaranteed=4 * GPU_UNITS),)), Team(2, "borrower")
    held = replace(run(9, Piece(1, 8_250, "2g.20gb", 4), team=2), pool="gpu")
    world = Cluster(nodes=(node(card(1, *STATIC)),), teams=(owner, borrower), runs=(held,))
    for wish, victims in (({"gpus": 1}, ()), ({"mig": "4g.40gb"}, ()), ({"mig": "2g.20gb"}, (9,))):
        outcome = plan(replace(world, asks=(ask(1, **wish),)), Policy(recut=False), 1000)
        assert tuple(victim for claim in outcome.claims for victim in claim.victims) == victims


def test_an_ask_by_slices_is_counted_as_the_largest_instance_that_it_may_get():
    limited = Team(1, "limited", quotas=(Quota("gpu", borrow_limit=6_000),))
    world = Cluster(nodes=(node(card(1, ("1g.20gb", 0))),), teams=(limited,))
    assert not plan(replace(world, asks=(ask(1, mig="1g"),)), Policy(recut=False), 1000).places
    assert plan(replace(world, asks=(ask(1, mig="1g.10gb"),)), Policy(), 1000).places


def test_the_memory_of_shares_is_counted():
    asks = [ask(n, thousandths=100, gpu_memory_mib=50_000) for n in (1, 2)]
    assert len({cards[0][0] for cards in pieces(decide([node(card(1), card(2))], *asks)).values()}) == 2


def test_a_card_with_too_little_memory_does_not_do():
    outcome = decide(
        [node(card(1), number=1), node(card(2, memory=143_000), number=2)], ask(1, gpus=1, gpu_memory_mib=100_000)
    )
    assert pieces(outcome)[1] == [(2, "", 0)]
