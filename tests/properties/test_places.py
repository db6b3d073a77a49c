"""One judgement of what a node has room for, and the stated order of places, against every possibility."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scheduling.core.books import saved_parts
from scheduling.core.cluster import Ask, Cluster, Gpu, Node, Part, Piece, Run, Shape
from scheduling.core.places.filters import Want, merged
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from scheduling.core.promises import Promise
from scheduling.core.state import State
from scheduling.core.units import GPU_UNITS
from tests.properties.test_against_brute_force import SMALL, busy_worlds
from tests.properties.worlds import H100, shapes

NOW = 30


@st.composite
def promised_worlds(draw):
    """The state of a busy cluster, with promises to others on some of its nodes."""
    state = State(Policy(recut=draw(st.booleans())))
    state.load(draw(busy_worlds(mig=True)))
    state.promises.ends.update({run.job: run.ends_by(NOW) for run in state.runs.values()})
    for host in state.ledger.hosts.values():
        for _ in range(draw(st.integers(0, 2))):
            starts = draw(st.sampled_from((NOW + 20, NOW + 100, NOW + 700)))
            cards, cpu, memory = (
                draw(st.sampled_from(some)) for some in ((0, 1, 2, 5), (0, 4000, 16_000), (0, 32_768))
            )
            state.promises.add(host.id, Promise(starts, starts + 500, cards, cpu, memory, job=99))
    return state


@SMALL
@given(promised_worlds(), shapes(mig=True), st.sampled_from((10, 80, 2000)), st.data())
def test_what_fits_without_some_jobs_fits_once_they_are_gone_and_nothing_else_does(state, shape, limit, data):
    """Eviction asks the first, placement the second. Some are stopped, some leave a part of their memory behind."""
    ledger, search = state.ledger, state.search
    for pool in ("a100", "h100"):
        want = Want(98, data.draw(st.sampled_from(sorted(state.teams))), shape, pool, NOW + limit)
        for group, cards in merged(search.options(shape, pool)):
            for host in [host for host in ledger.hosts.values() if host.group is group]:
                here = sorted({job for job, _ in host.parts})
                gone = data.draw(st.sets(st.sampled_from(here))) if here else set()
                saves = dict.fromkeys(data.draw(st.sets(st.sampled_from(sorted(gone)))) if gone else (), 4096)
                saves = {job: mib for job, mib in saves.items() if len(state.runs[job].parts) == 1}
                told = search.left_on(host, want, gone, saves), search.cards_for(host, want, cards, gone, saves)
                mark = ledger.checkpoint()
                for job in gone:
                    for part in state.runs[job].parts:
                        ledger.give(job, part)
                    for part in saved_parts(state.runs[job].parts, saves[job]) if job in saves else ():
                        ledger.take(-job, part)
                assert (search.left_on(host, want), search.cards_for(host, want, cards)) == told
                assert (search.one_here(want, host, cards) is not None) == (told[1] != 0)
                ledger.rollback(mark)


@SMALL
@given(
    st.lists(st.tuples(st.sampled_from((100, 250, 500, 700)), st.integers(1, 2)), max_size=6),
    st.sampled_from((100, 250, 500, 1000)),
    st.integers(2, 5),
)
def test_a_gang_of_shares_starts_exactly_where_the_cards_of_its_team_have_room_for_all_of_it(held, wish, replicas):
    used, owners, runs = dict.fromkeys(range(1, 5), 0), dict[int, int](), []
    for job, (share, team) in enumerate(held, start=10):
        gpu = next((gpu for gpu in used if owners.get(gpu, team) == team and used[gpu] + share <= 1000), 0)
        if gpu:
            used[gpu] += share
            owners[gpu] = team
            piece = Piece(gpu, 42 * share, thousandths=share)
            part = Part(1 + (gpu > 2), (piece,))
            runs.append(Run(Ask(job, team, 1, Shape(thousandths=share), 0, 60), (part,), 1, running_at=1))
    nodes = tuple(
        Node(n, f"n{n}", "gpu", 64_000, 64_000, tuple(Gpu(gpu, H100, 81_920) for gpu in (2 * n - 1, 2 * n)))
        for n in (1, 2)
    )
    ask = Ask(1, 1, 1, Shape(thousandths=wish, replicas=replicas), 0, 60)
    outcome = plan(Cluster(nodes=nodes, asks=(ask,), runs=tuple(runs)), Policy(), 2)
    room = {gpu: (1000 - used[gpu]) // wish if owners.get(gpu, 1) == 1 else 0 for gpu in used}
    assert bool(outcome.places) == (sum(room.values()) >= replicas)
    for place in outcome.places:
        nodes_used = {part.node for part in place.parts}
        fits_on_one = any(sum(room[gpu] for gpu in pair) >= replicas for pair in ((1, 2), (3, 4)))
        assert not fits_on_one or len(nodes_used) == 1


@st.composite
def half_full_nodes(draw):
    """Nodes whose cards lie in up to three islands, some of them taken."""
    nodes, taken = [], []
    for number in range(1, draw(st.integers(1, 4)) + 1):
        cards = [
            Gpu(10 * number + place, H100, island=draw(st.integers(0, 2))) for place in range(draw(st.integers(1, 6)))
        ]
        nodes.append(Node(number, f"n{number}", "gpu", 64_000, 64_000, tuple(cards)))
        held = [Piece(card.id, GPU_UNITS) for card in cards if draw(st.booleans())]
        if held:
            wish = Ask(100 + number, 1, 1, Shape(gpus=len(held)), 0, 60)
            taken.append(Run(wish, (Part(number, tuple(held)),), 1, running_at=1))
    return tuple(nodes), tuple(taken)


@SMALL
@given(half_full_nodes(), st.integers(1, 4))
def test_whole_cards_lie_in_one_island_where_any_node_has_one_and_else_on_the_tightest_node(world, gpus):
    nodes, runs = world
    held = {piece.gpu for run in runs for part in run.parts for piece in part.pieces}
    ranked = []
    for node in nodes:
        free = [card for card in node.gpus if card.id not in held]
        islands = [sum(card.island == island for card in free) for island in range(3)]
        if len(free) >= gpus:
            ranked.append((max(islands) < gpus, len(free), node.id))
    ask = Ask(1, 1, 1, Shape(gpus=gpus), 0, 60)
    outcome = plan(Cluster(nodes=nodes, asks=(ask,), runs=runs), Policy(), 2)
    assert bool(outcome.places) == bool(ranked)
    for place in outcome.places:
        (part,) = place.parts
        apart, _, best = min(ranked)
        assert part.node == best
        island_of = {card.id: card.island for node in nodes for card in node.gpus}
        assert apart or len({island_of[piece.gpu] for piece in part.pieces}) == 1


@SMALL
@given(half_full_nodes(), st.integers(1, 3), st.integers(2, 3))
def test_a_gang_that_finds_a_node_with_islands_for_all_of_it_lies_in_them(world, gpus, replicas):
    nodes, runs = world
    held = {piece.gpu for run in runs for part in run.parts for piece in part.pieces}
    free = {node.id: [card for card in node.gpus if card.id not in held] for node in nodes}
    island_of = {card.id: card.island for node in nodes for card in node.gpus}
    ask = Ask(1, 1, 1, Shape(gpus=gpus, replicas=replicas), 0, 60)
    outcome = plan(replace(Cluster(nodes=nodes, runs=runs), asks=(ask,)), Policy(), 2)
    whole = [
        node
        for node, cards in free.items()
        if sum(sum(card.island == island for card in cards) // gpus for island in range(3)) >= replicas
    ]
    for place in outcome.places if whole else ():
        assert len({part.node for part in place.parts}) == 1
        assert all(len({island_of[piece.gpu] for piece in part.pieces}) == 1 for part in place.parts)
    assert not whole or outcome.places
