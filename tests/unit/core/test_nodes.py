"""Which node, and which of its cards together: models, labels, islands, domains, and what is promised there."""

from dataclasses import replace

from scheduling.core.cluster import Cluster, Need, Node, Part, Piece, Quota, Run, Team
from scheduling.core.decisions import Lack
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from scheduling.core.remedies import changes_that_would_start
from scheduling.core.units import GPU_UNITS
from tests.cards import H100, H200, card, decide, node, pieces, run
from tests.pictures import ask


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


def test_labels_choose_the_node():
    nodes = [node(card(1), number=1), node(card(2), number=2, labels=(("ib", "ndr"),))]
    assert pieces(decide(nodes, ask(1, gpus=1, needs=(Need("ib"),))))[1][0][0] == 2
    assert pieces(decide(nodes, ask(1, gpus=1, needs=(Need("ib", ("ndr",), absent=True),))))[1][0][0] == 1


def test_cards_of_one_island_stay_together():
    gpus = [card(n, island=(n - 1) // 2) for n in range(1, 5)]
    world = node(*gpus)
    outcome = decide([world], ask(1, gpus=2), runs=(run(9, Piece(1, GPU_UNITS)),))
    assert [gpu for gpu, _, _ in pieces(outcome)[1]] == [3, 4]


def linked(number, first, *islands):
    """A node whose cards, numbered from `first`, are linked by twos, threes …, as `islands` says."""
    numbers = [island for island, size in enumerate(islands) for _ in range(size)]
    return node(*(card(first + place, island=island) for place, island in enumerate(numbers)), number=number)


def test_a_node_on_which_one_island_holds_the_ask_comes_before_a_tighter_one():
    nodes = [linked(1, 10, 1, 1), linked(2, 20, 1, 2), linked(3, 30, 2, 2)]
    assert pieces(decide(nodes, ask(1, gpus=2)))[1] == [(21, "", 0), (22, "", 0)]
    busy = run(9, Piece(30, GPU_UNITS), Piece(32, GPU_UNITS))
    apart = decide([nodes[0], nodes[2]], ask(1, gpus=2), runs=(replace(busy, parts=(replace(busy.parts[0], node=3),)),))
    assert [gpu for gpu, _, _ in pieces(apart)[1]] == [10, 11]


def test_where_fragmentation_is_looked_at_an_island_comes_first_too():
    mix = ((ask(2, thousandths=500).shape, 1), (ask(3, gpus=1).shape, 1))
    world = Cluster(nodes=(linked(1, 10, 1, 1), linked(2, 20, 2, 2)), asks=(ask(1, gpus=2),), mix=mix)
    assert pieces(plan(world, Policy(), 1000))[1] == [(20, "", 0), (21, "", 0)]


def test_each_replica_of_a_gang_gets_an_island_where_there_are_enough():
    nodes = [linked(1, 10, 1, 3), linked(2, 20, 2, 2), linked(3, 30, 1, 1)]
    outcome = decide(nodes, ask(1, gpus=2, replicas=2))
    assert [part.node for part in outcome.places[0].parts] == [2, 2]
    spread = decide([nodes[0], nodes[2]], ask(1, gpus=2, replicas=2))
    assert [part.node for part in spread.places[0].parts] == [1, 1]


def test_of_two_islands_that_hold_the_ask_the_one_that_is_not_cut_is_taken():
    gpus = (card(1, ("1g.10gb", 0)), card(2), card(3, island=1), card(4, island=1), card(5, island=1))
    assert [gpu for gpu, _, _ in pieces(decide([node(*gpus)], ask(1, gpus=2)))[1]] == [3, 4]


def test_what_requires_an_island_gets_one_or_waits():
    nodes = [linked(1, 10, 2, 2), linked(2, 20, 1, 1, 1)]
    wish = ask(2, gpus=2, required="island")
    assert pieces(decide(nodes[:1], wish))[2] == [(10, "", 0), (11, "", 0)]
    hold = decide(nodes, wish, runs=(run(9, Piece(10, GPU_UNITS), Piece(12, GPU_UNITS)),)).holds[0]
    assert (hold.code, dict(hold.numbers)) == ("island_busy", {"gpus": 2, "free_gpus": 1})
    never = decide(nodes[1:], wish).holds[0]
    assert (never.code, dict(never.numbers)["lacks"]) == ("never_fits", Lack.ISLAND)


def test_whoever_waits_for_an_island_is_told_that_any_cards_of_a_node_would_do():
    taken = run(9, Piece(10, GPU_UNITS), Piece(12, GPU_UNITS))
    world = Cluster(nodes=(linked(1, 10, 2, 2),), asks=(ask(1, gpus=2, required="island"),), runs=(taken,))
    assert [(c.what, c.value) for c in changes_that_would_start(world, Policy(), 1000, 1)] == [
        ("topology", "node"), ("gpus", "1"),
    ]  # fmt: skip


def test_all_replicas_of_what_requires_an_island_lie_in_the_same_one():
    (place,) = decide(
        [linked(1, 10, 2, 2), linked(2, 20, 1, 3, 4)], ask(1, gpus=2, replicas=2, required="island")
    ).places
    assert [piece.gpu for part in place.parts for piece in part.pieces] == [24, 25, 26, 27]
    apart = ask(1, thousandths=1000, replicas=3, required="island")
    (place,) = decide([linked(1, 10, 2, 2), linked(2, 20, 1, 3)], apart).places
    assert [piece.gpu for part in place.parts for piece in part.pieces] == [21, 22, 23]


def test_an_island_is_reserved_where_it_is_free_first():
    ends = {10: 5000, 11: 9000, 12: 6000, 13: 7000}
    runs = [
        Run(ask(gpu, gpus=1, limit=end - 1, preemptible=False), (Part(1, (Piece(gpu, GPU_UNITS),)),), 1, running_at=1)
        for gpu, end in ends.items()
    ]
    for replicas in (1, 2):
        wish = ask(1, gpus=2 // replicas, replicas=replicas, required="island")
        (reserve,) = decide([linked(1, 10, 2, 2)], wish, runs=runs).reserves
        assert reserve.at == 7000
        assert sorted(piece.gpu for part in reserve.parts for piece in part.pieces) == [12, 13]


def test_those_fall_for_an_island_with_whom_least_is_lost_there():
    teams = (Team(1, "owner", quotas=(Quota("gpu", guaranteed=4 * GPU_UNITS),)), Team(2, "borrower"))
    runs = [
        Run(ask(gpu, gpus=1, team=2), (Part(1, (Piece(gpu, GPU_UNITS),)),), since, running_at=since, pool="gpu")
        for gpu, since in ((10, 900), (11, 100), (12, 500), (13, 600))
    ]
    for replicas in (1, 2):
        wish = ask(1, gpus=2 // replicas, replicas=replicas, required="island")
        (claim,) = decide([linked(1, 10, 2, 2)], wish, runs=runs, teams=teams).claims
        assert claim.victims == (12, 13)
        assert sorted(piece.gpu for part in claim.parts for piece in part.pieces) == [12, 13]


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


def test_nobody_falls_for_cpu_that_is_promised_to_another_job_anyway():
    """The victim would be gone by the time of the promise in any case: what it gives back then is promised already."""
    teams = (Team(1, "owner", quotas=(Quota("gpu", guaranteed=4 * GPU_UNITS),)), Team(2, "borrower"))
    runs = tuple(
        Run(ask(n, gpus=1, team=2, limit=1000, preemptible=n == 8), (Part(1, (Piece(n, GPU_UNITS),), 4000, 1024),), 500,
            running_at=500, pool="gpu")
        for n in (8, 9)
    )  # fmt: skip
    small = replace(node(card(7), card(8), card(9)), cpu_millis=8000)
    promised = ask(1, gpus=1, cpu=8000, tier="production", may_evict_from=9999)
    outcome = plan(
        Cluster(nodes=(small,), teams=teams, runs=runs, asks=(promised, ask(2, gpus=1, cpu=4000))), Policy(), 1000
    )
    assert [(reserve.job, reserve.at) for reserve in outcome.reserves][:1] == [(1, 1500)]
    assert (outcome.claims, outcome.stops) == ((), ())
