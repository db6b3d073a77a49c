"""Parts of cards: what MIG allows, what is cut anew, and who shares a card with whom."""

from dataclasses import replace

import pytest

from scheduling.core import mig
from scheduling.core.cluster import Cluster, Gpu, Instance, Need, Node, Part, Piece, Run
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from scheduling.core.units import GPU_UNITS
from tests.pictures import ask

H100 = "NVIDIA H100 80GB HBM3"
H200 = "NVIDIA H200"


def node(*gpus, number=1, **more):
    return Node(number, f"n{number}", "gpu", 64_000, 256_000, gpus, **more)


def card(number, *layout, model=H100, memory=81_920, **more):
    return Gpu(number, model, memory, mig=True, layout=tuple(Instance(*i) for i in layout), **more)


def decide(nodes, *asks, runs=(), policy=Policy()):  # noqa: B008
    return plan(Cluster(nodes=tuple(nodes), asks=asks, runs=runs), policy, 1000)


def pieces(outcome):
    return {p.job: [(x.gpu, x.profile, x.start) for part in p.parts for x in part.pieces] for p in outcome.places}


def run(job, *held, team=1):
    return Run(ask(job, team=team), (Part(1, held),), 1, running_at=1)


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


def test_the_memory_of_shares_is_counted():
    asks = [ask(n, thousandths=100, gpu_memory_mib=50_000) for n in (1, 2)]
    assert len({cards[0][0] for cards in pieces(decide([node(card(1), card(2))], *asks)).values()}) == 2


def test_the_liked_model_first_then_the_other():
    nodes = [node(card(1), number=1), node(card(2, model=H200), number=2)]
    liked = [ask(n, gpus=1, models=(H200, H100)) for n in (1, 2)]
    assert pieces(decide(nodes, *liked)) == {1: [(2, "", 0)], 2: [(1, "", 0)]}


def test_the_liked_model_comes_first_in_whichever_pool_it_is():
    nodes = [
        Node(number, f"n{number}", pool, 64_000, 256_000, (card(number, model=model),))
        for number, pool, model in ((1, "a", H100), (2, "b", H200))
    ]
    first = ask(1, gpus=1, models=(H200, H100))
    assert [place.pool for place in decide(nodes, first, ask(2, gpus=1, models=(H200, H100))).places] == ["b", "a"]
    assert [place.pool for place in decide(nodes, ask(1, gpus=1, models=(H200, H100), pools=("a", "b"))).places] == [
        "a"
    ]


def test_a_card_with_too_little_memory_does_not_do():
    outcome = decide(
        [node(card(1), number=1), node(card(2, memory=143_000), number=2)], ask(1, gpus=1, gpu_memory_mib=100_000)
    )
    assert pieces(outcome)[1] == [(2, "", 0)]


def test_labels_choose_the_node():
    nodes = [node(card(1), number=1), node(card(2), number=2, labels=(("ib", "ndr"),))]
    assert pieces(decide(nodes, ask(1, gpus=1, needs=(Need("ib"),))))[1][0][0] == 2
    assert pieces(decide(nodes, ask(1, gpus=1, needs=(Need("ib", ("ndr",), absent=True),))))[1][0][0] == 1


def test_cards_of_one_island_stay_together():
    gpus = [card(n, island=(n - 1) // 2) for n in range(1, 5)]
    world = node(*gpus)
    outcome = decide([world], ask(1, gpus=2), runs=(run(9, Piece(1, GPU_UNITS)),))
    assert [gpu for gpu, _, _ in pieces(outcome)[1]] == [3, 4]


def test_a_gang_takes_the_smallest_domain_that_holds_it():
    racks = {1: "r1", 2: "r2", 3: "r2", 4: "r1"}
    nodes = [node(card(n * 2), card(n * 2 + 1), number=n, path=("b", rack)) for n, rack in racks.items()]
    outcome = decide(nodes[:3], ask(1, gpus=2, replicas=2))
    assert [part.node for part in outcome.places[0].parts] == [2, 3]
    far = decide([nodes[0], nodes[1]], ask(1, gpus=2, replicas=2, required="rack"))
    assert far.holds[0].code == "topology"


def test_what_requires_a_level_that_the_policy_does_not_name_is_not_spread_instead():
    nodes = [node(card(n), number=n, path=("b", "r1")) for n in (1, 2)]
    assert not decide(nodes, ask(1, gpus=1, replicas=2, required="row")).places
    assert decide(nodes, ask(1, gpus=1, replicas=2, required="rack")).places


def test_work_without_gpus_leaves_free_cards_their_cpu():
    small = replace(node(card(1), card(2)), cpu_millis=8000)
    outcome = decide([small], ask(1, cpu=1000), runs=(run(9, Piece(1, GPU_UNITS)),))
    assert len(outcome.places) == 1
    outcome = decide([small], ask(1, cpu=5000), runs=(run(9, Piece(1, GPU_UNITS)),))
    assert outcome.places == ()
