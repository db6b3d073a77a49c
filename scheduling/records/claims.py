"""The life of a claim in the database: made with the evictions that it is for, ended with its job's wait, or expired.

Every function is called inside the transaction of the change that it belongs to.
"""

import logging
from collections.abc import Sequence
from datetime import datetime

from django.db.models import F, Q

from scheduling.core.cluster import Claim as Decision
from scheduling.core.lifecycle import JobState
from scheduling.models import Allocation, Claim, ClaimedSlot, Job, Slot, SlotKind
from scheduling.records.usage import Charges, Holder, settle
from scheduling.shaping import accepts_work

log = logging.getLogger("berth.claims")


class SlotTaken(Exception):
    """A slot of the claim is not as the plan saw it."""


def make_claim(
    decision: Decision, job: Job, victims: Sequence[Job], charges: Charges, *, expires_at: datetime, now: datetime
) -> Claim:
    """Keep these places for `job`. A slot must be free, or held by one of the victims, and claimed by nobody; else
    SlotTaken, and the caller's savepoint takes everything back."""
    claim = Claim.objects.create(
        job=job,
        pool=decision.pool,
        made_at=now,
        expires_at=expires_at,
        victims=[[victim.pk, victim.attempt] for victim in victims],
    )
    for index, part in enumerate(decision.parts):
        slots = [_claim_slot(piece.gpu, job, victims) for piece in part.pieces]
        for rank, slot in enumerate(slots or [None]):
            lead = rank == 0
            ClaimedSlot.objects.create(
                claim=claim,
                part=index,
                lead=lead,
                node_id=part.node,
                slot=slot,
                units=slot.units if slot else 0,
                cpu_millis=part.cpu_millis if lead else 0,
                memory_mib=part.memory_mib if lead else 0,
                charge=charges.of(part, decision.pool) if lead else 0,
            )
    return claim


def _claim_slot(gpu: int, job: Job, victims: Sequence[Job]) -> Slot:
    slot = Slot.objects.filter(gpu=gpu, kind=SlotKind.WHOLE, retired_at__isnull=True).first()
    if slot is None:
        raise SlotTaken(f"card {gpu} has no slot any more")
    holders = Q(held_by__isnull=True) | Q(held_by__in=victims)
    free = Slot.objects.filter(holders, pk=slot.pk, claimed_for__isnull=True, gpu__quarantined_at__isnull=True)
    if not free.update(claimed_for=job, claimed_over=F("held_by")):
        raise SlotTaken(f"slot {slot.pk} is held or claimed by somebody else")
    return slot


def end_claim(job: Job, *, now: datetime) -> bool:
    """The job leaves the queue, or its place cannot be had: the slots are everybody's again. False: it had no claim."""
    claim = Claim.objects.filter(job=job).select_related("job").first()
    if claim is None:
        return False
    settle(claim.pool, holders_of(claim), now=now)
    Slot.objects.filter(claimed_for=job).update(claimed_for=None, claimed_over=None)
    claim.delete()
    return True


def expire_claims(*, now: datetime) -> int:
    """End the claims that came to nothing. One whose victims are gone is fulfilled however late: they would have fallen
    for nothing."""
    ended = 0
    for claim in Claim.objects.select_related("job").prefetch_related("slots__node", "slots__slot__gpu"):
        if why := _void(claim, now):
            log.warning("the claim of job %s ended: %s", claim.job_id, why)
            ended += end_claim(claim.job, now=now)
    return ended


def _void(claim: Claim, now: datetime) -> str:
    """Why the claim cannot be fulfilled any more, or nothing."""
    if claim.job.state != JobState.QUEUED:  # cancelled in the very moment in which the claim was made
        return "its job does not wait"
    if any(not accepts_work(row.node, now) for row in claim.slots.all()):
        return "its node takes no work"
    if any(row.slot is not None and row.slot.gpu.quarantined_at for row in claim.slots.all()):
        return "a card of it is in quarantine"
    if claim.expires_at <= now and _remaining(claim):
        return "its time is over and somebody is still there"
    return ""


def _remaining(claim: Claim) -> bool:
    """Does a victim still hold what it was to give up?"""
    stays = Q(pk__in=[])
    for job, attempt in claim.victims:
        stays |= Q(job=job, attempt=attempt)
    return Allocation.objects.filter(stays, released_at__isnull=True).exists()


def holders_of(claim: Claim) -> list[Holder]:
    """Whose use the claim moves: its job's, and its victims'."""
    victims = Job.objects.filter(pk__in=[job for job, _ in claim.victims]).values_list("team_id", "owner_id")
    return [(claim.job.team_id, claim.job.owner_id), *victims]
