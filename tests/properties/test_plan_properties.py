"""What holds for every plan (DESIGN, Invariants), on random team trees, pools, gangs, MIG layouts and arrival
orders."""

import os
from collections import Counter
from dataclasses import fields

from hypothesis import HealthCheck, Phase, given, settings

from scheduling.core import mig
from scheduling.core.cluster import Instance
from scheduling.core.dump import dump, load
from scheduling.core.explain import sentence
from scheduling.core.hours import split
from scheduling.core.lifecycle import JobState
from scheduling.core.plan import plan
from scheduling.core.units import GPU_UNITS
from tests.properties.toy import Toy
from tests.properties.worlds import stories

#: TEST_EXAMPLES=1000 looks at so many random worlds per property
EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "12"))
settings.register_profile(
    "core", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
THOROUGH = settings(
    settings.get_profile("core"), max_examples=EXAMPLES, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)


def play(story, check):
    cluster, policy, steps = story
    toy = Toy(cluster, policy)
    for seconds, jobs in steps:
        for ask in jobs:
            toy.submit(ask)
        toy.step(seconds, check)
    for _ in range(6):
        toy.step(120, check)
    return toy


def check_one_decision_each(before, outcome, toy):
    decided = [p.job for p in outcome.places] + [h.job for h in outcome.holds]
    assert sorted(decided) == sorted(a.job for a in before.asks)
    for hold in outcome.holds:
        assert sentence(hold.code, dict(hold.numbers)), hold


def check_nothing_is_held_twice(before, outcome, toy):
    """With everything that the plan places: no card holds more than itself, no node gives more than it has."""
    layout_of = {g.id: list(g.layout) for n in before.nodes for g in n.gpus}
    for recut in outcome.recuts:
        for gone in recut.destroy:
            layout_of[recut.gpu].remove(gone)
        layout_of[recut.gpu] += recut.create
    held = [(r.job, part) for r in before.runs for part in r.parts]
    placed = [(p.job, part) for p in outcome.places for part in p.parts]
    for node in before.nodes:
        here = [part for _, part in held + placed if part.node == node.id]
        assert sum(part.cpu_millis for part in here) <= node.cpu_millis
        saved = sum(mib for where, mib in saved_on_nodes(before, outcome, toy.policy) if where == node.id)
        assert sum(part.memory_mib for part in here) + saved <= node.memory_mib
        for gpu in node.gpus:
            pieces = [piece for part in here for piece in part.pieces if piece.gpu == gpu.id]
            assert sum(piece.units for piece in pieces) <= GPU_UNITS
            if any(piece.whole for piece in pieces):
                assert len(pieces) == 1
            cut = [Instance(piece.profile, piece.start) for piece in pieces if piece.profile]
            assert len(set(cut)) == len(cut)
            assert not cut or len(cut) == len(pieces)
            assert mig.legal(gpu.model, cut)
            assert set(cut) <= set(layout_of[gpu.id])
    team_of = {a.job: a.team for a in before.asks} | {r.job: r.ask.team for r in before.runs}
    sharing = {}
    for job, part in held + placed:
        for piece in part.pieces:
            if piece.thousandths:
                sharing.setdefault(piece.gpu, set()).add(team_of[job])
    assert all(len(teams) == 1 for teams in sharing.values())


def check_what_stays_cut_stays_cut(before, outcome, toy):
    """Neither the policy nor a pool is overridden: such a card serves asks for the instances that it has."""
    lasting = {g.id: g.layout for n in before.nodes for g in n.gpus if not (g.mig and toy.policy.recut)}
    assert not lasting.keys() & {recut.gpu for recut in outcome.recuts}
    promised = [piece for r in outcome.reserves for part in r.parts for piece in part.pieces]
    for piece in [piece for d in (*outcome.places, *outcome.claims) for part in d.parts for piece in part.pieces]:
        layout = lasting.get(piece.gpu, ())
        assert not layout or Instance(piece.profile, piece.start) in layout
        assert piece.gpu not in lasting or layout or not piece.profile
    assert all(piece.profile for piece in promised if lasting.get(piece.gpu))


def saved_on_nodes(before, outcome, policy):
    """(node, MiB) of what suspended jobs keep there, those on their way there or back included."""
    going = {s.job for s in outcome.suspends}
    saving = (JobState.SUSPENDING, JobState.RESUMING)
    kept = [(r.ask, r.parts) for r in before.runs if r.state in saving or r.job in going]
    kept += [(a, a.pinned) for a in before.asks]
    return [(part.node, ask.saved_mib) for ask, parts in kept for part in parts] if not policy.keeps_work else []


def check_gangs_are_whole(before, outcome, toy):
    asked = {a.job: a for a in before.asks}
    for place in outcome.places:
        shape = asked[place.job].shape
        assert len(place.parts) == shape.replicas
        for part in place.parts:
            assert len(part.pieces) == (shape.gpus or (1 if shape.wants_gpu else 0))
        nodes = {n.id: n for n in before.nodes}
        if shape.required == "island":
            islands = {(node.id, gpu.island) for node in before.nodes for gpu in node.gpus
                       for part in place.parts for piece in part.pieces if piece.gpu == gpu.id}  # fmt: skip
            assert len(islands) == 1
        elif shape.required == "node":
            assert len({part.node for part in place.parts}) == 1
        elif shape.required:
            depth = toy.policy.levels.index(shape.required) + 1
            assert len({nodes[part.node].path[:depth] for part in place.parts}) == 1


def check_no_limit_is_exceeded(before, outcome, toy):
    """After every placement and claim, at every level: own guarantee plus borrow limit, and what one member may use."""
    for run in before.runs:
        assert run.job in toy.planner.held
    planner = toy.planner
    used, by_user = Counter(), Counter()
    asked = {a.job: a for a in before.asks}
    holders = [(h.pool, h.team, h.user, h.units - h.handed) for h in planner.held.values()]
    fulfilled = {c.job for c in planner.claims.values()}
    for place in outcome.places:
        if place.job not in fulfilled:
            ask = asked[place.job]
            holders.append((place.pool, ask.team, ask.user, sum(planner.units_of(p, place.pool) for p in place.parts)))
    for pool, team, user, units in holders:
        by_user[pool, team, user] += units
        for account in planner.account(pool, team).path():
            used[pool, account.team] += units
    grown = {(p.pool, a.team) for p in outcome.places if p.job not in fulfilled
             for a in planner.account(p.pool, asked[p.job].team).path()}  # fmt: skip
    for (pool, team), units in used.items():
        account = planner.account(pool, team)
        if account.quota.borrow_limit is not None and (pool, team) in grown:
            assert units <= account.guaranteed + account.quota.borrow_limit, (
                pool,
                team,
                units,
                holders,
                account.guaranteed,
            )
    for place in outcome.places:
        if place.job not in fulfilled:
            ask = asked[place.job]
            limit = planner.account(place.pool, ask.team).quota.user_limit
            assert limit is None or by_user[place.pool, ask.team, ask.user] <= limit


def check_victims_have_a_beneficiary(before, outcome, toy):
    """Each victim is in exactly one claim, may be evicted at all, and its claim is for a job that goes on waiting."""
    runs = {r.job: r for r in before.runs}
    evicted = [s for s in outcome.stops if s.beneficiary] + list(outcome.suspends)
    victims = [v for claim in outcome.claims for v in claim.victims]
    assert sorted(victims) == sorted(e.job for e in evicted)
    assert len(set(victims)) == len(victims)
    waiting = {h.job for h in outcome.holds}
    asked = {a.job: a for a in before.asks}
    for claim in outcome.claims:
        assert claim.job in waiting
        assert asked[claim.job].may_evict_from <= toy.now
        for victim in claim.victims:
            run = runs[victim]
            assert run.ask.preemptible
            assert toy.now - run.running_at >= run.ask.min_runtime_s


def check_guaranteed_work_stays(before, outcome, toy):
    """Work within a guarantee falls only to a higher tier of its own team, or to critical work inside its own
    guarantee."""
    planner, tiers = toy.planner, toy.policy.tiers
    asked = {a.job: a for a in before.asks}
    for claim in outcome.claims:
        ask = asked[claim.job]
        tier = planner.queue.tier_of(ask)
        critical = tier < len(tiers) and tiers[tier].critical
        for victim in claim.victims:
            run = planner.runs[victim]
            account = planner.account(claim.pool, run.ask.team)
            if run.ask.team == ask.team:
                assert planner.queue.tier_of(run.ask) > tier or account.used > account.guaranteed
            elif not critical:
                assert account.used > account.guaranteed


def check_every_card_splits_to_a_hundred_percent(before, outcome, toy):
    found = split(before, toy.now, idle=[r.job for r in before.runs][::2], recut=toy.policy.recut)
    cards = Counter(node.pool for node in before.nodes for _ in node.gpus)
    assert {pool: part.total for pool, part in found.items()} == {pool: n * GPU_UNITS for pool, n in cards.items()}
    assert all(min(getattr(part, field.name) for field in fields(part)) >= 0 for part in found.values())


def everything(before, outcome, toy):
    for check in (
        check_every_card_splits_to_a_hundred_percent,
        check_one_decision_each,
        check_nothing_is_held_twice,
        check_what_stays_cut_stays_cut,
        check_gangs_are_whole,
        check_no_limit_is_exceeded,
        check_victims_have_a_beneficiary,
        check_guaranteed_work_stays,
    ):
        check(before, outcome, toy)


@THOROUGH
@given(stories())
def test_every_invariant_holds_in_every_cycle_and_the_warm_plan_is_the_cold_one(story):
    play(story, everything)


@THOROUGH
@given(stories(mig=True))
def test_every_invariant_holds_where_cards_are_cut(story):
    play(story, everything)


@THOROUGH
@given(stories())
def test_the_same_snapshot_gives_the_same_plan_whatever_the_order_of_its_rows(story):
    toy = play(story, lambda *_: None)
    world = toy.planner.snapshot()
    names = ("nodes", "asks", "runs", "pools", "teams", "past", "claims", "bookings")
    turned = type(world)(**{name: tuple(reversed(getattr(world, name))) for name in names})
    assert plan(world, toy.policy, toy.now) == plan(turned, toy.policy, toy.now)


@settings(THOROUGH, max_examples=EXAMPLES // 2)
@given(stories(most_jobs=10))
def test_every_feasible_job_starts_once_arrivals_stop(story):
    """Every run ends by its limit and no node is lost: then only jobs that no node, no right can ever serve remain."""
    cluster, policy, steps = story
    toy = Toy(cluster, policy)
    for seconds, jobs in steps:
        for ask in jobs:
            toy.submit(ask)
        toy.step(seconds)
    for _ in range(60):
        toy.step(700)
        if not toy.planner.queue.asks:
            break
    _, outcome = toy.step(4000)
    _, outcome = toy.step(4000)
    impossible = {"never_fits", "no_nodes", "guarantee_used", "team_limit", "user_limit", "pool_full"}
    left = {h.job: (h.code, h.numbers) for h in outcome.holds if h.code not in impossible}
    if not toy.planner.runs:
        empty_but_waiting = {
            j: c
            for j, c in left.items()
            if c[0] not in ("topology", "gang_busy", "cpu_busy", "memory_busy", "slices_busy")
        }
        assert not empty_but_waiting, (
            empty_but_waiting,
            outcome,
            toy.planner.snapshot().asks,
            [len(n.gpus) for n in cluster.nodes],
        )
    assert len(toy.evictions) <= 40, toy.evictions


@THOROUGH
@given(stories(mig=True, most_jobs=8))
def test_a_dumped_snapshot_is_planned_again_to_the_identical_plan(story):
    toy = play(story, lambda *_: None)
    world = toy.planner.snapshot()
    again = load(dump(world, toy.policy, toy.now))
    assert again == (world, toy.policy, toy.now)
    assert plan(*again) == plan(world, toy.policy, toy.now)
