"""A gang that its team is owed gets its place back from whoever borrows it, over as many nodes as it takes."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from scheduling.core.cluster import Cluster, Gpu, Node, Part, Piece, Quota, Run, Team
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from scheduling.core.units import GPU_UNITS
from tests.pictures import ask
from tests.properties.test_against_brute_force import SMALL

OWNER, BORROWER, NOW = 1, 2, 1000


@st.composite
def lent_out(draw) -> Cluster:
    """Up to four nodes of whole cards on which a team without any guarantee runs work of one part, some of it not
    evictable, and one gang of a team that owns all cards."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    nodes, runs, card = [], [], 0
    for number, size in enumerate(sizes, start=1):
        cards = range(card + 1, card + size + 1)
        card += size
        nodes.append(
            Node(number, f"n{number}", "gpu", 64_000, 256_000, tuple(Gpu(n, memory_mib=81_920) for n in cards))
        )
        free = list(cards)
        while free and draw(st.integers(0, 7)):
            held = free[: draw(st.integers(1, len(free)))]
            free = free[len(held) :]
            job = 100 + len(runs)
            wish = ask(job, gpus=len(held), team=BORROWER, preemptible=bool(draw(st.integers(0, 7))))
            since = NOW - draw(st.integers(1, 3)) * 100
            parts = (Part(number, tuple(Piece(n, GPU_UNITS) for n in held)),)
            runs.append(Run(wish, parts, since, running_at=since))
    gang = ask(1, gpus=draw(st.integers(1, 3)), replicas=draw(st.integers(2, 4)), team=OWNER)
    quota = Quota("gpu", guaranteed=max(card, gang.shape.gpus * gang.shape.replicas) * GPU_UNITS)
    return Cluster(tuple(nodes), (gang,), tuple(runs), teams=(Team(OWNER, "owner", 0, (quota,)), Team(BORROWER, "red")))


def starts_without(world: Cluster, gone: set[int]) -> bool:
    left = tuple(run for run in world.runs if run.job not in gone)
    calm = Policy(reclaim=False, balance=False, preempt=False)
    return bool(plan(Cluster(world.nodes, world.asks, left, teams=world.teams), calm, NOW, explain=False).places)


@SMALL
@given(lent_out())
def test_it_takes_back_what_it_is_owed_and_spares_whom_it_can(world):
    evictable = {run.job for run in world.runs if run.ask.preemptible}
    outcome = plan(world, Policy(), NOW)
    if outcome.places:
        assert not outcome.claims
        assert starts_without(world, set())
        return
    assert bool(outcome.claims) == starts_without(world, evictable)
    victims = {stop.job for stop in outcome.stops}
    assert victims <= evictable
    assert len(outcome.claims) <= 1
    for one in combinations(sorted(victims), max(len(victims) - 1, 0)):
        assert not victims or not starts_without(world, set(one)), f"{one} would have been enough of {victims}"
