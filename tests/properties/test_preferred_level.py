"""The preferred level against every domain: it is kept wherever free places allow it, and changes nothing else."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.core.cluster import Ask, Cluster, Gpu, Node, Part, Piece, Run, Shape
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from scheduling.core.units import GPU_UNITS
from tests.properties.test_against_brute_force import SMALL
from tests.properties.test_plan_properties import EXAMPLES
from tests.properties.worlds import H100

H200 = "NVIDIA H200"
#: from the narrowest on; beyond the last one lies "anywhere"
LEVELS = ("island", "node", "rack", "block")
#: in most worlds the narrowest domain of what is liked best is of the preferred level anyway
MANY = settings(SMALL, max_examples=4 * EXAMPLES)


@st.composite
def half_full_racks(draw):
    """Nodes in two pools, in racks and blocks or in no rack at all, with cards of two models, some of them taken."""
    nodes, taken = [], []
    for number in range(1, draw(st.integers(2, 7)) + 1):
        models = draw(st.sampled_from(((H200,), (H100,), (H200, H100))))
        cards = [
            Gpu(10 * number + place, models[place % len(models)], 81_920, island=draw(st.integers(0, 1)))
            for place in range(draw(st.sampled_from((1, 2, 2, 3))))
        ]
        rack = draw(st.integers(0, 4))
        path = (f"b{rack // 2}", f"r{rack}")[: 2 - draw(st.sampled_from((0, 0, 0, 0, 1, 2)))]
        cpu = draw(st.sampled_from((1000, 2000, 64_000)))
        pool = draw(st.sampled_from(("a", "a", "b")))
        nodes.append(Node(number, f"n{number}", pool, cpu, 64_000, tuple(cards), path=path))
        held = [Piece(card.id, GPU_UNITS) for card in cards if draw(st.sampled_from((False, False, False, True)))]
        if held:
            wish = Ask(100 + number, 1, 1, Shape(gpus=len(held)), 0, 60)
            taken.append(Run(wish, (Part(number, tuple(held)),), 1, running_at=1, pool=pool))
    return Cluster(nodes=tuple(nodes), runs=tuple(taken))


gangs = st.builds(
    Shape,
    gpus=st.sampled_from((1, 1, 2)),
    cpu_millis=st.sampled_from((0, 1000)),
    replicas=st.sampled_from((2, 2, 3, 4, 1)),
    models=st.sampled_from(((H200, H100), (H200, H100), (), (H100,))),
    pools=st.sampled_from(((), ("a",), ("b", "a"))),
    required=st.sampled_from(("", "", "", "node", "rack", "block")),
    preferred=st.sampled_from(LEVELS),
)


def domain_of(node, gpu, level):
    """Nobody knows the domain of a node that does not say it; its own name is narrower than any."""
    if level == "island":
        return node.id, gpu.island
    depth = {"node": 3, "rack": 2, "block": 1}[level]
    return node.id if depth == 3 else node.path[:depth] if len(node.path) >= depth else ("alone", node.id)


def holds(cluster, shape, level):
    """Does one domain of this level have room for all replicas? The narrower ones lie in it."""
    held = {piece.gpu for run in cluster.runs for part in run.parts for piece in part.pieces}
    room = {}
    for node in cluster.nodes:
        if shape.pools and node.pool not in shape.pools:
            continue
        free = {}
        for gpu in node.gpus:
            if gpu.id not in held and (not shape.models or gpu.model in shape.models):
                domain = (node.pool, domain_of(node, gpu, level))
                free[domain] = free.get(domain, 0) + 1
        most = node.cpu_millis // shape.cpu_millis if shape.cpu_millis else 99
        for domain, cards in free.items():
            room[domain] = room.get(domain, 0) + min(cards // shape.gpus, most)
    return any(replicas >= shape.replicas for replicas in room.values())


def lies_in_one(cluster, parts, level):
    cards = {gpu.id: (node, gpu) for node in cluster.nodes for gpu in node.gpus}
    return len({domain_of(*cards[piece.gpu], level) for part in parts for piece in part.pieces}) == 1


@MANY
@given(half_full_racks(), gangs)
def test_all_replicas_lie_in_one_domain_of_the_preferred_level_if_any_holds_them_else_of_the_next_wider(world, shape):
    known = LEVELS[: LEVELS.index(shape.required) + 1] if shape.required else LEVELS
    indifferent, liking = (
        plan(replace(world, asks=(Ask(1, 1, 1, wish, 0, 60),)), Policy(), 2)
        for wish in (replace(shape, preferred=""), shape)
    )
    assert [place.job for place in liking.places] == [place.job for place in indifferent.places]
    assert (liking.holds, liking.claims, liking.stops) == (indifferent.holds, indifferent.claims, indifferent.stops)
    for place in liking.places:
        first = next((level for level in known[LEVELS.index(shape.preferred) :] if holds(world, shape, level)), None)
        assert first is None or lies_in_one(world, place.parts, first)
        assert not shape.required or lies_in_one(world, place.parts, shape.required)
