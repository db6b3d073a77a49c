"""Small worlds in which every possibility can be tried: what the core finds must be as good as the best of them."""

from dataclasses import replace
from itertools import combinations

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from scheduling.core import mig
from scheduling.core.backfill import TimeMap
from scheduling.core.cluster import Ask, Cluster, Gpu, Instance, Node, Part, Piece, Quota, Run, Shape, Team
from scheduling.core.dials import alternatives, dials
from scheduling.core.forecast import estimate_starts
from scheduling.core.lifecycle import EndReason
from scheduling.core.places.filters import Want
from scheduling.core.plan import Planner, plan
from scheduling.core.policy import Policy
from scheduling.core.remedies import Prover, changes_that_would_start
from scheduling.core.state import State
from scheduling.core.units import GPU_UNITS
from tests.properties.test_plan_properties import EXAMPLES
from tests.properties.worlds import H100, MIG_NAMES, asks, machines, team_trees

OWNER, BORROWER = 1, 2
NOW = 10_000
TIERS = ("production", "normal", "batch")
SMALL = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def borrowed_nodes(draw):
    """Nodes full of a borrower's runs of one to three cards, each with a tier and a start of its own."""
    nodes, runs, gpu, job = [], [], 0, 1
    for number in range(1, draw(st.integers(1, 3)) + 1):
        size = draw(st.integers(2, 6))
        cards = [Gpu(gpu + n + 1, "H100", 81_920) for n in range(size)]
        gpu += size
        nodes.append(Node(number, f"n{number}", "gpu", 64_000, 64_000, tuple(cards)))
        place = 0
        while place < size:
            width = min(draw(st.integers(1, 3)), size - place)
            wish = Ask(
                100 + job, BORROWER, 20, Shape(gpus=width), 0, 50_000,
                tier=draw(st.sampled_from(("normal", "batch"))), preemptible=draw(st.sampled_from((True, True, False))),
            )  # fmt: skip
            since = NOW - draw(st.sampled_from((10, 100, 1000)))
            pieces = tuple(Piece(card.id, GPU_UNITS) for card in cards[place : place + width])
            runs.append(Run(wish, (Part(number, pieces),), since, running_at=since))
            place += width
            job += 1
    return nodes, runs


@SMALL
@given(borrowed_nodes(), st.integers(1, 4))
def test_victims_on_one_node_are_the_best_set_by_the_stated_order(world, gpus):
    """None within a guarantee (all is borrowed here), the highest tier as low as possible, least work lost, fewest."""
    nodes, runs = world
    teams = (Team(OWNER, "owner", 0, (Quota("gpu", percent_milli=100_000),)), Team(BORROWER, "borrower"))
    ask = Ask(1, OWNER, 10, Shape(gpus=gpus), 0, 600)
    outcome = plan(Cluster(nodes=tuple(nodes), asks=(ask,), runs=tuple(runs), teams=teams), Policy(), NOW)
    rank = {"normal": 1, "batch": 2}
    best = None
    for node in nodes:
        here = [r for r in runs if r.parts[0].node == node.id and r.ask.preemptible]
        for count in range(1, len(here) + 1):
            for chosen in combinations(here, count):
                if sum(r.ask.shape.gpus for r in chosen) >= gpus:
                    cost = (
                        -min(rank[r.ask.tier] for r in chosen),
                        sum(r.ask.shape.gpus * GPU_UNITS * (NOW - r.running_at) for r in chosen),
                        count,
                    )
                    best = cost if best is None else min(best, cost)
    stopped = {s.job for s in outcome.stops if s.reason is EndReason.EVICT}
    if best is None:
        assert not stopped
        return
    chosen = [r for r in runs if r.job in stopped]
    assert best == (
        -min(rank[r.ask.tier] for r in chosen),
        sum(r.ask.shape.gpus * GPU_UNITS * (NOW - r.running_at) for r in chosen),
        len(chosen),
    )


@SMALL
@given(borrowed_nodes(), st.integers(1, 3), st.integers(1, 3))
def test_no_victim_of_a_gang_could_have_been_spared(world, gpus, replicas):
    nodes, runs = world
    teams = (Team(OWNER, "owner", 0, (Quota("gpu", percent_milli=100_000),)), Team(BORROWER, "borrower"))
    ask = Ask(1, OWNER, 10, Shape(gpus=gpus, replicas=replicas), 0, 600)
    cluster = Cluster(nodes=tuple(nodes), asks=(ask,), runs=tuple(runs), teams=teams)
    stopped = {s.job for s in plan(cluster, Policy(), NOW).stops}
    for count in range(len(stopped)):
        for kept in combinations(sorted(stopped), count):
            left = tuple(r for r in runs if r.job not in kept)
            without = plan(replace(cluster, runs=left), Policy(reclaim=False, balance=False), NOW)
            assert not without.places, f"{kept} would have been enough of {stopped}"


def fits_somehow(nodes, shape) -> bool:
    """All ways of putting whole-card replicas on nodes: identical replicas fill nodes one by one, the sum decides."""
    return sum(min(len(n.gpus) // shape.gpus, n.cpu_millis // shape.cpu_millis, n.memory_mib // shape.memory_mib)
               for n in nodes) >= shape.replicas  # fmt: skip


@SMALL
@given(machines(), st.integers(1, 4), st.integers(1, 6), st.sampled_from((500, 4000, 9000)))
def test_no_placement_is_missed_on_free_nodes(nodes, gpus, replicas, cpu):
    shape = Shape(gpus=gpus, replicas=replicas, cpu_millis=cpu, memory_mib=1024, pools=("h100",))
    outcome = plan(Cluster(nodes=nodes, asks=(Ask(1, 1, 1, shape, 0, 60),)), Policy(), 0)
    assert bool(outcome.places) == fits_somehow([n for n in nodes if n.pool == "h100"], shape)


@st.composite
def cut_cards(draw):
    """A card with a legal set of held instances and another of free ones, found by trying at random."""
    model = H100
    held, free = [], []
    for into in (held, free):
        for _ in range(draw(st.integers(0, 4))):
            name = draw(st.sampled_from(sorted(mig.PROFILES[model])))
            new = Instance(name, draw(st.sampled_from(mig.PROFILES[model][name].starts)))
            if mig.legal(model, (*held, *free, new)):
                into.append(new)
    return Gpu(1, model, 81_920, mig=True, layout=tuple(held + free)), held


@SMALL
@given(cut_cards(), st.sampled_from(MIG_NAMES), st.booleans())
def test_no_place_for_an_instance_is_missed(card, wish, recut):
    """Brute force over every profile and start: beside what is held, or only free instances where nothing is cut."""
    gpu, held = card
    profiles = [p for p in mig.PROFILES[H100].values()
                if p.name == wish or (p.name.split(".")[0] == wish and "+" not in p.name)]  # fmt: skip
    exists = any(
        mig.legal(H100, (*held, Instance(p.name, start))) and (recut or Instance(p.name, start) in gpu.layout)
        for p in profiles for start in p.starts if Instance(p.name, start) not in held
    )  # fmt: skip
    node = Node(1, "n1", "gpu", 64_000, 64_000, (gpu,))
    pieces = tuple(Piece(1, mig.PROFILES[H100][i.profile].units, i.profile, i.start) for i in held)
    runs = (Run(Ask(9, 1, 1, Shape(mig="1g"), 0, 60), (Part(1, pieces),), 1, running_at=1),) if held else ()
    world = Cluster(nodes=(node,), asks=(Ask(1, 1, 1, Shape(mig=wish), 0, 60),), runs=runs)
    assert bool(plan(world, Policy(recut=recut), 2).places) == exists


@SMALL
@given(st.lists(st.sampled_from((100, 250, 500, 700)), max_size=6), st.sampled_from((100, 250, 500, 1000)))
def test_no_room_for_a_share_is_missed(held, wish):
    """Shares of one team on two cards: the ask starts exactly if one of them has so much left."""
    cards, runs = {1: 0, 2: 0}, []
    for job, share in enumerate(held, start=10):
        gpu = next((gpu for gpu, used in cards.items() if used + share <= 1000), 0)
        if gpu:
            cards[gpu] += share
            piece = Piece(gpu, 42 * share, thousandths=share)
            runs.append(Run(Ask(job, 1, 1, Shape(thousandths=share), 0, 60), (Part(1, (piece,)),), 1, running_at=1))
    node = Node(1, "n1", "gpu", 64_000, 64_000, (Gpu(1, H100, 81_920), Gpu(2, H100, 81_920)))
    world = Cluster(nodes=(node,), asks=(Ask(1, 1, 1, Shape(thousandths=wish), 0, 60),), runs=tuple(runs))
    assert bool(plan(world, Policy(), 2).places) == any(used + wish <= 1000 for used in cards.values())


@st.composite
def busy_worlds(draw, *, mig=False):
    """A cluster on which the core itself has started some jobs, and others that wait."""
    nodes, teams = draw(machines(mig=mig)), draw(team_trees())
    first = [draw(asks(job, len(teams), mig=mig)) for job in range(1, draw(st.integers(1, 8)) + 1)]
    planner = Planner(Policy())
    planner.load(Cluster(nodes=nodes, teams=teams, asks=tuple(first)))
    for place in planner.plan(1).places:
        planner.started(Run(planner.queue.asks[place.job], place.parts, 1, running_at=1, pool=place.pool), now=1)
    for job in range(21, 21 + draw(st.integers(1, 6))):
        planner.submit(draw(asks(job, len(teams), mig=mig)))
    return planner.snapshot()


@SMALL
@given(busy_worlds())
def test_nothing_that_starts_moves_a_reservation(world):
    """Without what was placed after it, the reserved job would start no earlier; with it, no later."""
    policy = Policy(reclaim=False, balance=False, preempt=False)
    outcome = plan(world, policy, 30)
    ends = {}
    for run in world.runs:
        ends[run.job] = (run.ends_by(30), run.parts)
    asked = {a.job: a for a in world.asks}
    for place in outcome.places:
        ends[place.job] = (30 + asked[place.job].limit_s, place.parts)
    for reserve in outcome.reserves:
        promised = {piece.gpu for part in reserve.parts for piece in part.pieces if piece.whole}
        for end, parts in ends.values():
            if end > reserve.at:
                assert not promised & {piece.gpu for part in parts for piece in part.pieces}
    for one, other in combinations(outcome.reserves, 2):
        one_ends, other_ends = one.at + asked[one.job].limit_s, other.at + asked[other.job].limit_s
        if one.at < other_ends and other.at < one_ends:
            cards = [{p.gpu for part in r.parts for p in part.pieces if p.whole} for r in (one, other)]
            assert not cards[0] & cards[1]


@SMALL
@given(busy_worlds())
def test_every_suggested_change_starts_the_job(world):
    policy = Policy()
    outcome = plan(world, policy, 30)
    assume(outcome.holds)
    job = outcome.holds[-1].job
    for change in changes_that_would_start(world, policy, 30, job, tiers=TIERS):
        others = tuple(a for a in world.asks if a.job != job)
        changed = plan(replace(world, asks=(*others, change.ask)), policy, 30)
        assert job in {place.job for place in changed.places}


@settings(SMALL, max_examples=EXAMPLES // 3)
@given(busy_worlds())
def test_no_change_is_missed_and_no_larger_number_would_start(world):
    """Each alternative and some of each number, planned one by one; and the prover stays as it was. With a deadline a
    limit also decides whose turn comes first, so that a longer one may start where a shorter one does not."""
    prover, policy = Prover(world, Policy(), 30), Policy()
    for ask in plan(world, policy, 30).holds:
        ask = next(a for a in world.asks if a.job == ask.job)
        told = {change.what: change for change in prover.changes(ask.job, tiers=TIERS)}

        def starts(change):
            others = tuple(a for a in world.asks if a.job != change.ask.job)
            outcome = plan(replace(world, asks=(*others, change.ask)), policy, 30, explain=False)
            return change.ask.job in {place.job for place in outcome.places}

        for changes in alternatives(ask, world, levels=policy.levels, tiers=TIERS, pools=prover.pools):
            first = next((change for change in changes if starts(change)), None)
            assert first is None or told[first.what] == first
        for dial in (dial for dial in dials(ask, world) if dial.what != "limit_s" or not ask.deadline):
            steps = sorted({1, dial.steps, *range(1, dial.steps + 1, max(1, dial.steps // 6))}, reverse=True)
            best = next((dial.turned(step) for step in steps if starts(dial.turned(step))), None)
            if best is not None:
                most = next(step for step in range(dial.steps, 0, -1) if dial.turned(step) == told[dial.what])
                assert dial.turned(most) == best or starts(dial.turned(most)), (dial.what, best.value)
                assert most >= next(step for step in steps if dial.turned(step) == best), (dial.what, best.value)
    assert prover.planner.snapshot().asks == tuple(sorted(world.asks, key=lambda ask: ask.job))


@SMALL
@given(busy_worlds())
def test_reasons_switched_off_change_no_decision(world):
    told, silent = plan(world, Policy(), 30), plan(world, Policy(), 30, explain=False)
    assert replace(told, holds=()) == silent


@SMALL
@given(busy_worlds())
def test_the_forward_run_starts_now_what_the_plan_places_now(world):
    starts = estimate_starts(world, Policy(), 30, horizon_s=50_000)
    for place in plan(world, Policy(), 30).places:
        assert starts[place.job] == 30


@SMALL
@given(busy_worlds(), st.integers(1, 4), st.sampled_from((60, 5000)))
def test_the_quick_way_to_a_reservation_is_never_later_than_the_general_one(world, gpus, limit):
    state = State(Policy())
    state.load(world)
    state.promises.ends.update({run.job: run.ends_by(30) for run in world.runs})
    want = Want(99, 1, Shape(gpus=gpus, cpu_millis=500, memory_mib=512), "h100", 30 + limit)
    for _ in range(3):  # each answer is promised, so that the next one has to go around it
        time_map = TimeMap(state.search, 30)
        for groups in state.search.options(want.shape, "h100"):
            quick, thorough = time_map.earliest(want, groups), time_map.earliest_anywhere(want, groups)
            assert thorough is None or (quick is not None and quick[0] <= thorough[0])
            if quick is not None:
                time_map.promise(99, quick[0], quick[0] + limit, quick[1])
