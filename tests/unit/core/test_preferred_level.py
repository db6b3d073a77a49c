"""The preferred level of the topology: before the order of models and pools, never before a start or a guarantee."""

from dataclasses import replace

from scheduling.core.cluster import Part, Piece, Quota, Run, Team
from scheduling.core.units import GPU_UNITS
from tests.cards import H100, H200, card, decide, node, pieces
from tests.pictures import ask


def racked(racks, **more):
    """Nodes of two cards each, in these racks of one block; node n has the cards 2n and 2n + 1."""
    return [
        node(card(n * 2, **kinds), card(n * 2 + 1, **kinds), number=n, path=("b", rack), **more)
        for n, (rack, kinds) in enumerate(racks, start=1)
    ]


def nodes_of(outcome):
    return sorted(part.node for place in outcome.places for part in place.parts)


def test_a_preferred_rack_comes_before_the_liked_model_and_nobody_waits_for_it():
    liked, other = {"model": H200}, {"model": H100}
    nodes = racked([("r1", liked), ("r2", liked), ("r3", other), ("r3", other)])
    gang = {"gpus": 2, "replicas": 2, "models": (H200, H100)}
    assert nodes_of(decide(nodes, ask(1, **gang))) == [1, 2]
    assert nodes_of(decide(nodes, ask(1, **gang, preferred="rack"))) == [3, 4]
    assert nodes_of(decide(nodes, ask(1, **gang, preferred="block"))) == [1, 2]
    assert nodes_of(decide(nodes[:3], ask(1, **gang, preferred="rack"))) == [1, 2]
    assert nodes_of(decide(nodes, ask(1, **gang, preferred="row"))) == [1, 2]


def test_where_no_rack_holds_a_gang_that_prefers_one_the_next_wider_level_is_tried():
    nodes = [
        node(card(n, model=model), number=n, path=(block, f"r{n}"))
        for n, (model, block) in enumerate(((H200, "b1"), (H200, "b2"), (H100, "b3"), (H100, "b3")), start=1)
    ]
    gang = {"gpus": 1, "replicas": 2, "models": (H200, H100)}
    assert nodes_of(decide(nodes, ask(1, **gang))) == [1, 2]
    assert nodes_of(decide(nodes, ask(1, **gang, preferred="rack"))) == [3, 4]


def test_of_racks_that_hold_a_preferring_gang_the_tightest_is_taken_and_else_the_first():
    nodes = racked([("r1", {}), ("r1", {}), ("r1", {}), ("r2", {}), ("r2", {}), ("r3", {}), ("r3", {})])
    assert nodes_of(decide(nodes, ask(1, gpus=2, replicas=2, preferred="rack"))) == [4, 5]


def test_a_preferred_level_inside_the_required_one_gives_way_no_further_than_that():
    nodes = racked([("r1", {}), ("r2", {})])
    outcome = decide(nodes, ask(1, gpus=2, replicas=2, required="rack", preferred="node"))
    assert not outcome.places
    assert outcome.holds[0].code == "topology"
    assert not decide(nodes, ask(1, gpus=1, replicas=2, required="row", preferred="node")).places


def test_a_preferred_island_holds_all_of_a_gang_or_the_one_replica_where_any_does():
    nodes = [
        node(*(card(10 * number + place, island=place // half) for place in range(2 * half)), number=number)
        for number, half in ((1, 2), (2, 4))
    ]
    gang = {"gpus": 1, "replicas": 3}
    assert pieces(decide(nodes, ask(1, **gang)))[1] == [(10, "", 0), (11, "", 0), (12, "", 0)]
    assert pieces(decide(nodes, ask(1, **gang, preferred="island")))[1] == [(20, "", 0), (21, "", 0), (22, "", 0)]
    assert len(pieces(decide(nodes[:1], ask(1, **gang, preferred="island")))[1]) == 3
    apart = node(card(1, model=H200), card(2, model=H200, island=1), number=3)
    single = {"gpus": 2, "models": (H200, H100)}
    assert nodes_of(decide([apart, nodes[0]], ask(1, **single))) == [3]
    assert nodes_of(decide([apart, nodes[0]], ask(1, **single, preferred="island"))) == [1]


def test_a_preferred_rack_is_looked_for_in_every_pool_but_a_guarantee_comes_first():
    nodes = [
        replace(n, pool="a" if n.id < 3 else "b") for n in racked([("r1", {}), ("r2", {}), ("r3", {}), ("r3", {})])
    ]
    wish = ask(1, gpus=2, replicas=2, preferred="rack", pools=("a", "b"))
    assert nodes_of(decide(nodes, replace(wish, shape=replace(wish.shape, preferred="")))) == [1, 2]
    assert nodes_of(decide(nodes, wish)) == [3, 4]
    owner = Team(1, "owner", quotas=(Quota("a", guaranteed=4 * GPU_UNITS),))
    assert nodes_of(decide(nodes, wish, teams=(owner,))) == [1, 2]


def test_a_job_evicts_the_same_whatever_level_it_prefers():
    teams = (Team(1, "owner", quotas=(Quota("gpu", guaranteed=4 * GPU_UNITS),)), Team(2, "borrower"))
    runs = [
        Run(
            ask(10 + gpu, gpus=1, team=2),
            (Part(gpu // 2, (Piece(gpu, GPU_UNITS),)),),
            since,
            running_at=since,
            pool="gpu",
        )
        for gpu, since in enumerate((900, 100, 800, 700, 100, 100), start=2)
    ]
    for level in ("", "rack", "node", "island"):
        wish = ask(1, gpus=1, replicas=2, preferred=level)
        (claim,) = decide(racked([("r1", {}), ("r2", {}), ("r2", {})]), wish, runs=runs, teams=teams).claims
        assert claim.victims == (12, 14)
