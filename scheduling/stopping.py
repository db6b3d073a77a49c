"""Write the stops of a plan, and its claims with the evictions that make room for them.

An eviction stands or falls with its claim: nobody stops for a job that has no claim. As in `placing`, what changed
since the snapshot is left out and the rest is written at once.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from django.db import IntegrityError, transaction

from scheduling.core.decisions import Claim, Credit, Stop
from scheduling.core.lifecycle import EndReason, IllegalMove, JobEvent, JobState, next_state
from scheduling.models import Allocation, Job, Slot
from scheduling.placing import Written, lock_slots
from scheduling.records.claims import SlotTaken, make_claims
from scheduling.records.usage import Charges, credit
from scheduling.transitions import StaleJob, lock_jobs, move_jobs

log = logging.getLogger("berth.enact")

STOP_SENTENCES = {
    EndReason.TIMED_OUT: "It reached its time limit.",
    EndReason.START_TIMEOUT: "Its server did not answer in time after the start.",
    EndReason.PLACE_TIMEOUT: "The node showed no progress in starting it.",
    EndReason.EVICT: "Its place was needed by work that goes before it.",
}


def stop_jobs(stops: Sequence[Stop], *, now: datetime) -> Written:
    """Stop those that are still as the plan saw them. A fixed number of statements for each reason and state."""
    if not stops:
        return Written()
    with transaction.atomic():
        jobs = lock_jobs({stop.job: stop.version for stop in stops})
        going: dict[EndReason, list[Job]] = defaultdict(list)
        for stop in stops:
            job = jobs.get(stop.job)
            if job is None or not _may_stop(job, stop.reason):
                log.info("left out: job %s, it changed in the meantime", stop.job)
                continue
            going[stop.reason].append(job)
        written = Written()
        for reason, group in going.items():
            written.add(_stop(group, reason, now))
    return written


def claim_places(
    claims: Sequence[Claim],
    *,
    waits: Mapping[int, int],
    evictions: Mapping[int, Sequence[Stop]],
    credits: Sequence[Credit],
    now: datetime,
) -> tuple[Written, int]:
    """Keep the places of those claims that still make sense, and stop their victims, with what is owed to the victims'
    teams. waits: the version in which a beneficiary must still wait. evictions: by beneficiary. Answers what was
    stopped, and how many claims were made."""
    if not claims:
        return Written(), 0
    try:
        with transaction.atomic():
            return _claim(claims, waits, evictions, credits, now)
    except (IntegrityError, StaleJob, SlotTaken) as why:
        if len(claims) == 1:
            log.warning("left out: the claim of job %s, refused by the database: %s", claims[0].job, why)
            return Written(), 0
    half = len(claims) // 2
    written, made = Written(), 0
    for some in (claims[:half], claims[half:]):
        stopped, count = claim_places(some, waits=waits, evictions=evictions, credits=credits, now=now)
        written.add(stopped)
        made += count
    return written, made


def _claim(
    claims: Sequence[Claim],
    waits: Mapping[int, int],
    evictions: Mapping[int, Sequence[Stop]],
    credits: Sequence[Credit],
    now: datetime,
) -> tuple[Written, int]:
    stops = [stop for claim in claims for stop in evictions[claim.job]]
    # Locked: a cancellation at this moment comes after us and then takes the claim away again.
    versions = {claim.job: waits[claim.job] for claim in claims}
    jobs = lock_jobs(versions | {stop.job: stop.version for stop in stops})
    slots = lock_slots(part for claim in claims for part in claim.parts)
    sound: list[Claim] = []
    victims: dict[int, list[Job]] = {}
    taken: set[int] = set()
    for claim in claims:
        falling = [jobs[stop.job] for stop in evictions[claim.job] if stop.job in jobs]
        cards = [piece.gpu for part in claim.parts for piece in part.pieces]
        if why := _obstacle(claim, jobs.get(claim.job), falling, cards, slots, taken):
            log.info("left out: the claim of job %s, %s", claim.job, why)
            continue
        taken.update(cards)
        sound.append(claim)
        victims[claim.job] = falling
        log.info("job %s claims the place of jobs %s", claim.job, list(claim.victims))
    if not sound:
        return Written(), 0
    make_claims(sound, victims, slots, Charges(), now=now)
    written = _stop([job for falling in victims.values() for job in falling], EndReason.EVICT, now)
    for owed in credits:
        if owed.beneficiary in victims:
            credit(owed)
    return written, len(sound)


def _obstacle(
    claim: Claim,
    job: Job | None,
    falling: Sequence[Job],
    cards: Sequence[int],
    slots: Mapping[int, Slot],
    taken: set[int],
) -> str:
    """Why the claim makes no sense any more, or nothing."""
    if job is None or job.state != JobState.QUEUED:
        return "its job changed in the meantime"
    if len(falling) != len(claim.victims) or not all(_may_stop(victim, EndReason.EVICT) for victim in falling):
        return "a victim changed in the meantime"
    leaving = {victim.pk for victim in falling}
    for card in cards:
        slot = slots.get(card)
        if slot is None:
            return f"card {card} has no slot any more"
        if slot.gpu.quarantined_at is not None:
            return f"card {card} is in quarantine"
        held = slot.held_by_id is not None and slot.held_by_id not in leaving
        if held or slot.claimed_for_id is not None or card in taken:
            return f"slot {slot.pk} is held or claimed by somebody else"
    return ""


def _may_stop(job: Job, reason: EndReason) -> bool:
    try:
        next_state(JobState(job.state), JobEvent.STOP, reason=reason)
    except IllegalMove:
        return False
    return True


def _stop(jobs: Collection[Job], reason: EndReason, now: datetime) -> Written:
    if not jobs:
        return Written()
    move_jobs(jobs, JobEvent.STOP, now=now, reason=reason, code=str(reason), message=STOP_SENTENCES[reason])
    log.info("stopping jobs %s: %s", [job.pk for job in jobs], reason)
    held = Allocation.objects.filter(job__in=[job.pk for job in jobs], released_at__isnull=True)
    return Written({job.pk for job in jobs}, set(held.values_list("node_id", flat=True)))
