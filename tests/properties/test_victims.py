"""Victims against brute force where cards are cut and shared, and several teams hold parts of them."""

from dataclasses import replace
from itertools import combinations

from hypothesis import given

from scheduling.core import mig
from scheduling.core.cluster import Instance, parked
from scheduling.core.lifecycle import EndReason
from scheduling.core.places.filters import Want
from scheduling.core.plan import Cycle, Planner, plan
from scheduling.core.policy import Policy
from tests.properties.cut_worlds import NOW, OWNED, OWNER, cut_worlds, many_instances, small_trees
from tests.properties.test_against_brute_force import SMALL
from tests.properties.worlds import H100

CALM = Policy(reclaim=False, balance=False, preempt=False)
RANKS = {"normal": 1, "batch": 2}
#: what the owner's job, of this tier itself, cannot take
OWN = (OWNER, "normal")


def starts_without(world, stopped, suspended=()) -> bool:
    """Would job 1 start if the ones had never been there, and only their memory were left of the others?"""
    left = tuple(run for run in world.runs if run.job not in (*stopped, *suspended))
    saved = tuple(
        replace(parked(run, now=NOW, ran_s=0, calm_until=0), not_before=NOW + 1)
        for run in world.runs if run.job in suspended
    )  # fmt: skip
    outcome = plan(replace(world, runs=left, asks=(*world.asks, *saved)), CALM, NOW, explain=False)
    return 1 in {place.job for place in outcome.places}


def ways_out(outcome) -> tuple[set[int], set[int]]:
    """Whom the plan stops, and whom it suspends."""
    assert all(stop.reason is EndReason.EVICT for stop in outcome.stops)
    return {stop.job for stop in outcome.stops}, {suspend.job for suspend in outcome.suspends}


def cost(world, policy, stopped, suspended):
    """The stated order: none within a guarantee (the owner's own), the highest tier low, least work lost, fewest."""
    runs = [run for run in world.runs if run.job in stopped or run.job in suspended]
    lost = 0
    for run in runs:
        seconds = policy.suspend_cost_s(run.ask.saved_mib) if run.job in suspended else NOW - run.running_at
        lost += seconds * run.parts[0].pieces[0].units
    return any(run.ask.team == OWNER for run in runs), -min(RANKS[run.ask.tier] for run in runs), lost, len(runs)


@SMALL
@given(cut_worlds(teams=OWNED))
def test_no_victim_on_cut_cards_could_have_been_spared(world):
    stopped, suspended = ways_out(plan(world, Policy(), NOW))
    victims = sorted(stopped | suspended)
    for count in range(len(victims)):
        for fewer in combinations(victims, count):
            enough = starts_without(world, stopped & set(fewer), suspended & set(fewer))
            assert not enough, f"{fewer} would have been enough of {victims}"


@SMALL
@given(cut_worlds(teams=OWNED))
def test_victims_on_one_node_with_cut_cards_are_the_best_set_by_the_stated_order(world):
    """Nobody does better who stops all of a set, or suspends all of it that can be suspended."""
    policy = Policy()
    stopped, suspended = ways_out(plan(world, policy, NOW))
    if world.asks[0].shape.replicas > 1 or starts_without(world, ()):
        return
    best = None
    for node in world.nodes:
        here = [
            run for run in world.runs
            if run.parts[0].node == node.id and run.ask.preemptible and (run.ask.team, run.ask.tier) != OWN
        ]  # fmt: skip
        able = {run.job for run in here if run.ask.suspendable and run.parts[0].pieces[0].whole}
        for count in range(1, len(here) + 1):
            for chosen in combinations(sorted(run.job for run in here), count):
                for saving in {frozenset(), frozenset(able & set(chosen))}:
                    price = cost(world, policy, set(chosen) - saving, saving)
                    if (best is None or price < best) and starts_without(world, set(chosen) - saving, saving):
                        best = price
    found = cost(world, policy, stopped, suspended) if stopped or suspended else None
    assert (found is None) == (best is None), (found, best)
    assert found is None or found <= best


@SMALL
@given(cut_worlds(teams=small_trees()))
def test_in_any_tree_no_victim_could_have_been_spared_that_the_rest_may_do_without(world):
    """Taking one may be what allows to take another (both of them are borrowed by one's own department): so each
    smaller set has to be allowed as well."""
    policy = Policy()
    outcome = plan(world, policy, NOW)
    claim = next((claim for claim in outcome.claims if claim.job == 1), None)
    if claim is None:
        return
    stopped, suspended = ways_out(outcome)
    planner = Planner(policy)
    planner.load(world)
    cycle = Cycle(planner, NOW)
    cycle._expire()
    cycle._entitle()
    ask, rights = world.asks[0], cycle.eviction.rights
    (kind,) = planner.queue.kinds.values()
    units = next(cost for pool, cost in kind.costs if pool == claim.pool)
    taking = rights.taking(Want(1, ask.team, ask.shape, claim.pool, NOW + ask.limit_s), kind, units, 0)
    known = {
        v.job: v for node in world.nodes for v in rights.on(node.id, taking, set(), rights.beside(node.id, taking))
    }  # fmt: skip
    for count in range(len(claim.victims)):
        for fewer in combinations(claim.victims, count):
            if rights.in_allowed_order(taking, tuple(known[job] for job in fewer)):
                enough = starts_without(world, stopped & set(fewer), suspended & set(fewer))
                assert not enough, f"{fewer} would have been enough of {claim.victims}"


@SMALL
@given(many_instances())
def test_of_many_instances_on_a_node_the_best_set_on_one_card_falls(world):
    """Every profile and start that the ask may have, on every card: whoever overlaps it, or has its compute slices."""
    stopped, suspended = ways_out(plan(world, Policy(), NOW))
    assert not suspended
    best = None
    for card in world.nodes[0].gpus:
        here = {run.job: run.parts[0].pieces[0] for run in world.runs if run.parts[0].pieces[0].gpu == card.id}
        for profile in mig.wanted(H100, world.asks[0].shape.mig, 0):
            for count in range(len(here) + 1):
                for chosen in combinations(sorted(here), count):
                    left = [Instance(piece.profile, piece.start) for job, piece in here.items() if job not in chosen]
                    if any(mig.legal(H100, (*left, Instance(profile.name, start))) for start in profile.starts):
                        price = cost(world, Policy(), set(chosen), set()) if chosen else ()
                        best = price if best is None else min(best, price)
    assert (cost(world, Policy(), stopped, set()) if stopped else ()) == best
