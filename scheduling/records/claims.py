"""The life of a claim in the database: made with the evictions that it is for, ended with its job's wait, or expired.

Every function is called inside the transaction of the change that it belongs to.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from django.db.models import F, OuterRef, Subquery

from scheduling.core.cluster import Claim as Decision
from scheduling.core.lifecycle import JobState
from scheduling.models import Allocation, Claim, ClaimedSlot, Job, Node, Slot
from scheduling.records.usage import Charges, Holder, settle
from scheduling.shaping import accepts_work

log = logging.getLogger("berth.claims")


class SlotTaken(Exception):
    """A slot is not as the plan saw it."""


def make_claims(
    decisions: Sequence[Decision], victims: Mapping[int, Sequence[Job]], slots: Mapping[int, Slot], charges: Charges,
    *, now: datetime,
) -> None:  # fmt: skip
    """Keep these places, each for its job. victims: by the job for which they stop. slots: by card, locked, and found
    to be free or held by one of the victims and claimed by nobody. A fixed number of statements."""
    claims = {
        decision.job: Claim(
            job_id=decision.job,
            pool=decision.pool,
            made_at=now,
            expires_at=datetime.fromtimestamp(decision.expires_at, UTC),
            victims=[[victim.pk, victim.attempt] for victim in victims[decision.job]],
        )
        for decision in decisions
    }
    Claim.objects.bulk_create(claims.values())
    rows = [
        ClaimedSlot(
            claim=claims[decision.job],
            part=index,
            lead=rank == 0,
            node_id=part.node,
            slot=slot,
            units=slot.units if slot else 0,
            cpu_millis=part.cpu_millis if rank == 0 else 0,
            memory_mib=part.memory_mib if rank == 0 else 0,
            charge=charges.of(part, decision.pool) if rank == 0 else 0,
        )
        for decision in decisions
        for index, part in enumerate(decision.parts)
        for rank, slot in enumerate([slots[piece.gpu] for piece in part.pieces] or [None])
    ]
    ClaimedSlot.objects.bulk_create(rows)
    kept = [row.slot_id for row in rows if row.slot_id]
    owner = ClaimedSlot.objects.filter(slot=OuterRef("pk")).values("claim__job")
    free = Slot.objects.filter(pk__in=kept, claimed_for__isnull=True)
    if free.update(claimed_for=Subquery(owner[:1]), claimed_over=F("held_by")) != len(kept):
        raise SlotTaken("somebody else claimed a slot in this very moment")


def end_claims(jobs: Collection[int], *, now: datetime) -> int:
    """These jobs leave the queue, or their places cannot be had: the slots are everybody's again. Answers how many of
    them had a claim. A fixed number of statements for each pool."""
    claims = list(Claim.objects.filter(job__in=jobs).select_related("job"))
    if not claims:
        return 0
    holders: dict[str, list[Holder]] = defaultdict(list)
    for pool, holder in holders_of(claims):
        holders[pool].append(holder)
    for pool in sorted(holders):
        settle(pool, holders[pool], now=now)
    Slot.objects.filter(claimed_for__in=[claim.job_id for claim in claims]).update(claimed_for=None, claimed_over=None)
    Claim.objects.filter(pk__in=[claim.pk for claim in claims]).delete()
    return len(claims)


def expire_claims(*, now: datetime) -> int:
    """End the claims that came to nothing, in a fixed number of queries. One whose victims are gone is fulfilled
    however late: they would have fallen for nothing."""
    claims = list(Claim.objects.values_list("job_id", "job__state", "expires_at", "victims"))
    if not claims:
        return 0
    nodes = Node.objects.defer("notes", "images", "facts")
    idle = [node.pk for node in nodes if not accepts_work(node, now)]
    stranded = set(ClaimedSlot.objects.filter(node__in=idle).values_list("claim__job_id", flat=True))
    quarantined = ClaimedSlot.objects.filter(slot__gpu__quarantined_at__isnull=False)
    sick = set(quarantined.values_list("claim__job_id", flat=True))
    late = {job for _, _, expires_at, victims in claims if expires_at <= now for job, _ in victims}
    live = Allocation.objects.filter(job__in=late, released_at__isnull=True)
    staying = set(live.values_list("job_id", "attempt")) if late else set()
    ended = []
    for job, state, expires_at, victims in claims:
        if state != JobState.QUEUED:  # cancelled in the very moment in which the claim was made
            why = "its job does not wait"
        elif job in stranded:
            why = "its node takes no work"
        elif job in sick:
            why = "a card of it is in quarantine"
        elif expires_at <= now and not staying.isdisjoint((victim, attempt) for victim, attempt in victims):
            why = "its time is over and somebody is still there"
        else:
            continue
        log.warning("the claim of job %s ended: %s", job, why)
        ended.append(job)
    return end_claims(ended, now=now)


def holders_of(claims: Sequence[Claim]) -> list[tuple[str, Holder]]:
    """(pool, whose use the claims move there): their jobs', and their victims'."""
    jobs = {job for claim in claims for job, _ in claim.victims}
    owners = {
        job: (team, person)
        for job, team, person in Job.objects.filter(pk__in=jobs).values_list("pk", "team_id", "owner_id")
    }
    holders = [(claim.pool, (claim.job.team_id, claim.job.owner_id)) for claim in claims]
    return [*holders, *((claim.pool, owners[job]) for claim in claims for job, _ in claim.victims if job in owners)]
