"""What holds for every plan, on random clusters and queues."""

from hypothesis import given
from hypothesis import strategies as st

from scheduling.core.explain import sentence
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from tests.pictures import ask, cluster

nodes = st.lists(st.text(alphabet=".a", min_size=0, max_size=8), min_size=1, max_size=5)
sizes = st.tuples(st.integers(0, 9), st.integers(100, 20_000), st.integers(64, 80_000), st.integers(1, 4))


@st.composite
def worlds(draw):
    picture = " | ".join(f"n{i}{draw(st.sampled_from(['', '!']))} {marks}" for i, marks in enumerate(draw(nodes)))
    asks = [
        ask(job, gpus=gpus, cpu=cpu, memory=memory, replicas=replicas)
        for job, (gpus, cpu, memory, replicas) in enumerate(draw(st.lists(sizes, max_size=12)), start=1)
    ]
    return cluster(picture, *draw(st.permutations(asks)))


@given(worlds())
def test_every_waiting_job_gets_exactly_one_place_or_one_hold(world):
    outcome = plan(world, Policy())
    decided = [p.job for p in outcome.places] + [h.job for h in outcome.holds]
    assert sorted(decided) == sorted(a.job for a in world.asks)


@given(worlds())
def test_no_slot_is_given_twice_and_no_node_more_than_it_has(world):
    outcome = plan(world, Policy())
    by_job = {a.job: a for a in world.asks}
    given_slots = [slot for place in outcome.places for part in place.parts for slot in part.slots]
    assert len(given_slots) == len(set(given_slots))
    for node in world.nodes:
        free = {slot.id for slot in node.slots if not slot.held}
        parts = [(by_job[p.job], part) for p in outcome.places for part in p.parts if part.node == node.id]
        assert node.accepts or not parts
        assert all(set(part.slots) <= free for _, part in parts)
        assert sum(a.cpu_millis for a, _ in parts) <= node.free_cpu_millis
        assert sum(a.memory_mib for a, _ in parts) <= node.free_memory_mib


@given(worlds())
def test_a_gang_is_whole_and_each_part_has_the_gpus_it_asked_for(world):
    by_job = {a.job: a for a in world.asks}
    for place in plan(world, Policy()).places:
        assert len(place.parts) == by_job[place.job].replicas
        assert all(len(part.slots) == by_job[place.job].gpus for part in place.parts)


@given(worlds())
def test_the_same_snapshot_gives_the_same_plan_whatever_the_order_of_its_rows(world):
    shuffled = type(world)(nodes=world.nodes, asks=tuple(reversed(world.asks)), runs=world.runs)
    assert plan(world, Policy()) == plan(shuffled, Policy())


@given(worlds())
def test_every_hold_has_a_sentence(world):
    for hold in plan(world, Policy()).holds:
        assert sentence(hold.code, dict(hold.numbers))
