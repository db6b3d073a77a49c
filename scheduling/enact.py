"""Write a Plan: one short transaction, guarded job by job. What changed meanwhile is left for the next cycle.

A gang is placed whole or not at all, and an eviction stands or falls with its claim. However many jobs a plan moves,
the number of statements stays the same.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db import transaction
from django.db.models import F

from scheduling.core.decisions import Plan, Stop
from scheduling.core.lifecycle import EndReason
from scheduling.models import Job, Node
from scheduling.placing import place_jobs
from scheduling.records.holds import TermsOf, Told, store_holds, store_reserves
from scheduling.records.usage import Holder, settle
from scheduling.stopping import STOP_SENTENCES, claim_places, stop_jobs
from scheduling.wiring import wired


class CannotEnact(Exception):
    """The plan holds a decision that the live loop has no means to carry out; nothing of the plan was written."""


@dataclass(slots=True)
class Outcome:
    """How many jobs were placed, stopped (the evicted included) and claimed for; how many decisions did not fit."""

    placed: int = 0
    stopped: int = 0
    claimed: int = 0
    outdated: int = 0


def enact(plan: Plan, *, now: datetime, terms: TermsOf | None = None, told: Told | None = None) -> Outcome:
    """Apply the plan. Wakes the nodes it touched after the commit.

    `terms`: why jobs stand where they stand in the queue, to be stored with their reasons. `told`: what is
    known to be stored already. Raises CannotEnact.
    """
    evictions = _evictions(plan)
    outcome = Outcome()
    if not (plan.stops or plan.claims or plan.places or plan.holds):
        store_reserves(plan.reserves, now)
        return outcome
    expiring = [stop for stop in plan.stops if not stop.beneficiary]
    waits = {hold.job: hold.version for hold in plan.holds}
    with transaction.atomic():
        _settle(plan, now)
        stopped = stop_jobs(expiring, now=now)
        evicted, outcome.claimed = claim_places(
            plan.claims, waits=waits, evictions=evictions, credits=plan.credits, now=now
        )
        placed = place_jobs(plan.places, now=now)
        store_holds(plan.holds, terms, told)
        store_reserves(plan.reserves, now)
        wake_on_commit(stopped.nodes | evicted.nodes | placed.nodes)
    outcome.placed, outcome.stopped = len(placed.jobs), len(stopped.jobs) + len(evicted.jobs)
    outcome.outdated = len(plan.places) - outcome.placed + len(plan.claims) - outcome.claimed
    outcome.outdated += len(expiring) - len(stopped.jobs)
    return outcome


def wake_on_commit(nodes: set[int]) -> None:
    """Count up the desired state of these nodes, and wake their agents once the transaction is safe."""
    if not nodes:
        return
    Node.objects.filter(pk__in=nodes).update(desired_version=F("desired_version") + 1)
    names = list(Node.objects.filter(pk__in=nodes).values_list("name", flat=True))
    for name in names:
        transaction.on_commit(partial(wired().wake_node, name))


# ------------------------------------------------------------------------------------------- before anything is written
def _evictions(plan: Plan) -> dict[int, list[Stop]]:
    """Evictions by the job that they are for. Raises CannotEnact where the plan asks for what no driver can do yet, or
    for what makes no sense: better a loud cycle than a decision that nobody carries out."""
    if plan.suspends or plan.recuts:
        raise CannotEnact(f"{len(plan.suspends)} suspends and {len(plan.recuts)} recuts: no driver can do either yet")
    parts = [part for place in plan.places for part in place.parts]
    parts += [part for claim in plan.claims for part in claim.parts]
    if odd := [piece for part in parts for piece in part.pieces if not piece.whole]:
        raise CannotEnact(f"parts of GPUs cannot be held yet: {odd[:3]}")
    evictions = defaultdict(list)
    for stop in plan.stops:
        if stop.reason not in STOP_SENTENCES:
            raise CannotEnact(f"nobody stops a job because of {stop.reason} here (job {stop.job})")
        if stop.beneficiary:
            evictions[stop.beneficiary].append(stop)
        elif stop.reason is EndReason.EVICT:
            raise CannotEnact(f"job {stop.job} would be evicted for nobody")
    if unexplained := {claim.job for claim in plan.claims} - {hold.job for hold in plan.holds}:
        raise CannotEnact(f"claims without a hold, for jobs {sorted(unexplained)}: was the plan made without reasons?")
    for claim in plan.claims:
        if sorted(claim.victims) != sorted(stop.job for stop in evictions[claim.job]):
            raise CannotEnact(f"the claim of job {claim.job} does not name those who stop for it")
    if unclaimed := {credit.beneficiary for credit in plan.credits} - {claim.job for claim in plan.claims}:
        raise CannotEnact(f"credits without a claim, for jobs {sorted(unclaimed)}")
    if orphans := evictions.keys() - {claim.job for claim in plan.claims}:
        raise CannotEnact(f"evictions without a claim, for jobs {sorted(orphans)}")
    return evictions


def _settle(plan: Plan, now: datetime) -> None:
    """Bring past use up to date for everybody whose holdings this plan moves."""
    pool_of = {place.job: place.pool for place in plan.places}
    for claim in plan.claims:
        pool_of |= dict.fromkeys((claim.job, *claim.victims), claim.pool)
    holders: dict[str, list[Holder]] = defaultdict(list)
    for job, team, person in Job.objects.filter(pk__in=list(pool_of)).values_list("pk", "team_id", "owner_id"):
        holders[pool_of[job]].append((team, person))
    for pool in sorted(holders):
        settle(pool, holders[pool], now=now)
