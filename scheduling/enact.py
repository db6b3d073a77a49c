"""Write a Plan: one short transaction, guarded row by row. What changed meanwhile is left for the next cycle.

A gang is placed whole or not at all, and an eviction stands or falls with its claim: nobody stops for a job that has no
claim. Each decision has a savepoint of its own.
"""

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from django.db import IntegrityError, transaction
from django.db.models import F

from scheduling.core.cluster import Part
from scheduling.core.decisions import Claim, Credit, Place, Plan, Stop
from scheduling.core.lifecycle import EndReason, IllegalMove, JobEvent, JobState
from scheduling.core.units import GPU_UNITS
from scheduling.models import Allocation, Gpu, Job, Node, NodeState, Slot, SlotKind
from scheduling.records.claims import SlotTaken, end_claim, make_claim
from scheduling.records.holds import TermsOf, store_holds, store_reserves
from scheduling.records.usage import Charges, Holder, credit, settle
from scheduling.transitions import StaleJob, move_job
from scheduling.wiring import wired

log = logging.getLogger("berth.enact")

STOP_SENTENCES = {
    EndReason.TIMED_OUT: "It reached its time limit.",
    EndReason.START_TIMEOUT: "Its server did not answer in time after the start.",
    EndReason.PLACE_TIMEOUT: "The node showed no progress in starting it.",
    EndReason.EVICT: "Its place was needed by work that goes before it.",
}


class CannotEnact(Exception):
    """The plan holds a decision that the live loop has no means to carry out; nothing of the plan was written."""


class _Outdated(Exception):
    """This decision no longer fits the rows; the savepoint rolls back and the next cycle decides anew."""


@dataclass(slots=True)
class Outcome:
    """How many jobs were placed, stopped (the evicted included) and claimed for; how many decisions did not fit."""

    placed: int = 0
    stopped: int = 0
    claimed: int = 0
    outdated: int = 0


def enact(plan: Plan, *, now: datetime, terms: TermsOf | None = None) -> Outcome:
    """Apply the plan. Wakes the nodes it touched after the commit.

    `terms`: why jobs stand where they stand in the queue, to be stored with their reasons. Raises CannotEnact.
    """
    evictions = _evictions(plan)
    outcome, touched = Outcome(), set[int]()
    if not (plan.stops or plan.claims or plan.places or plan.holds):
        store_reserves(plan.reserves, now)
        return outcome
    with transaction.atomic():
        _settle(plan, now)
        for stop in plan.stops:
            if not stop.beneficiary:
                outcome.stopped += _try(partial(_stop, stop, now), stop.job, touched, outcome)
        charges = Charges()
        waits = {hold.job: hold.version for hold in plan.holds}
        for claim in plan.claims:
            stops = evictions[claim.job]
            owed = [credit for credit in plan.credits if credit.beneficiary == claim.job]
            if _try(partial(_claim, claim, waits[claim.job], stops, owed, charges, now), claim.job, touched, outcome):
                outcome.claimed += 1
                outcome.stopped += len(stops)
        for place in plan.places:
            if _try(partial(_place, place, charges, now), place.job, touched, outcome):
                outcome.placed += 1
            else:
                _give_up_claim(place, now)
        store_holds(plan.holds, terms)
        store_reserves(plan.reserves, now)
        wake_on_commit(touched)
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


def _try(write: Callable[[], set[int]], job: int, touched: set[int], outcome: Outcome) -> bool:
    """Write one decision in a savepoint. False: it no longer fits, and nothing of it was written."""
    try:
        with transaction.atomic():
            touched |= write()
    except (_Outdated, SlotTaken, StaleJob, IllegalMove) as why:
        log.info("left out: job %s, %s", job, why)
    except IntegrityError as why:  # the database has the last word: a guard was passed that another writer shut
        log.warning("left out: job %s, refused by the database: %s", job, why)
    else:
        return True
    outcome.outdated += 1
    return False


# ------------------------------------------------------------------------------------------- one decision at a time
def _job(job: int, version: int) -> Job:
    found = Job.objects.filter(pk=job, version=version).first()
    if found is None:
        raise StaleJob(job=job)
    return found


def _stop(stop: Stop, now: datetime) -> set[int]:
    job = _job(stop.job, stop.version)
    sentence = STOP_SENTENCES[stop.reason]
    move_job(job, JobEvent.STOP, now=now, reason=stop.reason, code=str(stop.reason), message=sentence)
    log.info("stopping job %s: %s", job.pk, stop.reason)
    return set(Allocation.objects.filter(job=job, released_at__isnull=True).values_list("node_id", flat=True))


def _claim(
    claim: Claim, version: int, stops: list[Stop], owed: list[Credit], charges: Charges, now: datetime
) -> set[int]:
    """All victims stop, with what is owed to their teams for it, and the place is kept for the job, which must still
    wait as `version`; or nothing happens."""
    # Locked: a cancellation at this moment comes after us and then takes the claim away again.
    job = Job.objects.select_for_update().filter(pk=claim.job, version=version, state=JobState.QUEUED).first()
    if job is None:
        raise StaleJob(job=claim.job)
    victims = [_job(stop.job, stop.version) for stop in stops]
    expires_at = datetime.fromtimestamp(claim.expires_at, UTC)
    made = make_claim(claim, job, victims, charges, expires_at=expires_at, now=now)
    touched = set[int]()
    for stop in stops:
        touched |= _stop(stop, now)
    for credit_given in owed:
        credit(credit_given)
    log.info("job %s claims the place of jobs %s until %s", job.pk, list(claim.victims), made.expires_at)
    return touched


def _place(place: Place, charges: Charges, now: datetime) -> set[int]:
    job = move_job(_job(place.job, place.version), JobEvent.PLACE, now=now)
    nodes = {part.node for part in place.parts}
    if Node.objects.filter(pk__in=nodes, state=NodeState.READY).count() != len(nodes):
        raise _Outdated("a node takes no work any more")
    for index, part in enumerate(place.parts):
        _hold_part(job, index, part, charges.of(part, place.pool), now)
    log.info("placed job %s: %s", job.pk, [(part.node, [p.gpu for p in part.pieces]) for part in place.parts])
    return nodes


def _hold_part(job: Job, index: int, part: Part, units: int, now: datetime) -> None:
    cards = [piece.gpu for piece in part.pieces]
    slots = list(
        Slot.objects.filter(gpu__in=cards, kind=SlotKind.WHOLE, retired_at__isnull=True)
        .select_related("gpu")
        .order_by("gpu__index", "id")
    )
    if len(slots) != len(cards):
        raise _Outdated("a slot was retired")
    for slot in slots:
        _hold_slot(slot, job)
    for rank, slot_row in enumerate(slots or [None]):
        lead = rank == 0
        Allocation.objects.create(
            job=job,
            attempt=job.attempt,
            part=index,
            lead=lead,
            node_id=part.node,
            slot=slot_row,
            units=slot_row.units if slot_row else 0,
            cpu_millis=job.cpu_millis if lead else 0,
            memory_mib=job.memory_mib if lead else 0,
            charge=units if lead else 0,
            held_at=now,
        )


def _hold_slot(slot: Slot, job: Job) -> None:
    """Guarded: the slot must be free and kept for nobody else; the card must have the units, and be cut as planned."""
    free = Slot.objects.filter(pk=slot.pk, retired_at__isnull=True, held_by__isnull=True, claimed_for__isnull=True)
    card = Gpu.objects.filter(
        pk=slot.gpu_id,
        retired_at__isnull=True,
        quarantined_at__isnull=True,
        layout_version=slot.layout_version,
        held_units__lte=GPU_UNITS - slot.units,
    )
    if not free.update(held_by=job) or not card.update(held_units=F("held_units") + slot.units):
        raise _Outdated(f"slot {slot.pk} is not free")


def _give_up_claim(place: Place, now: datetime) -> None:
    """A claimed place that cannot be had would be tried for ever: the job looks for another one in the next cycle. If
    it is the job that changed, its claim has gone, or goes, with that."""
    job = Job.objects.filter(pk=place.job, version=place.version, state=JobState.QUEUED).first()
    if job is not None and end_claim(job, now=now):
        log.warning("claim of job %s ended: its place cannot be had", job.pk)
