"""Write the places of a plan: each gang whole or not at all, all of them in a fixed number of statements.

Rows are locked, each place is held against what they say now, what no longer fits is left out, and the rest is written
at once. So one job that changed costs the others nothing.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import F, OuterRef, Subquery

from scheduling.core.cluster import Part
from scheduling.core.decisions import Place
from scheduling.core.lifecycle import JobEvent, JobState
from scheduling.core.units import GPU_UNITS
from scheduling.models import Allocation, Claim, Gpu, Job, Node, NodeState, Slot, SlotKind
from scheduling.records.claims import SlotTaken, end_claims
from scheduling.records.usage import Charges
from scheduling.transitions import StaleJob, lock_jobs, move_jobs

log = logging.getLogger("berth.enact")

#: so many gangs in one go, for the sake of SQLite's limit of parameters
BATCH = 1_000


@dataclass(slots=True)
class Written:
    """Which jobs a step moved, and the nodes whose desired state it changed."""

    jobs: set[int] = field(default_factory=set)
    nodes: set[int] = field(default_factory=set)

    def add(self, other: "Written") -> None:
        self.jobs |= other.jobs
        self.nodes |= other.nodes


def place_jobs(places: Sequence[Place], *, now: datetime) -> Written:
    """Place what still fits. A claimed place that cannot be had is given up. Call it in a transaction that holds the
    pools' locks (`records.usage.settle`)."""
    written, charges = Written(), Charges()
    for begin in range(0, len(places), BATCH):
        written.add(_place(places[begin : begin + BATCH], charges, now))
    _give_up_claims([place for place in places if place.job not in written.jobs], now)
    return written


def _place(places: Sequence[Place], charges: Charges, now: datetime) -> Written:
    """In one savepoint. The database has the last word: a batch in which it refuses something is tried in halves, until
    only what it refuses is left out."""
    try:
        with transaction.atomic():
            return _write(places, charges, now)
    except (IntegrityError, StaleJob, SlotTaken) as why:
        if len(places) == 1:
            log.warning("left out: job %s, refused by the database: %s", places[0].job, why)
            return Written()
    half = len(places) // 2
    written = _place(places[:half], charges, now)
    written.add(_place(places[half:], charges, now))
    return written


def _write(places: Sequence[Place], charges: Charges, now: datetime) -> Written:
    jobs = lock_jobs({place.job: place.version for place in places})
    slots = lock_slots(part for place in places for part in place.parts)
    nodes = {part.node for place in places for part in place.parts}
    ready = set(Node.objects.filter(pk__in=nodes, state=NodeState.READY).values_list("pk", flat=True))
    fitting, taken, written = [], set[int](), Written()
    for place in places:
        job = jobs.get(place.job)
        cards = [piece.gpu for part in place.parts for piece in part.pieces]
        if why := _obstacle(place, job, cards, slots, ready, taken):
            log.info("left out: job %s, %s", place.job, why)
            continue
        taken.update(cards)
        fitting.append(place)
        written.jobs.add(place.job)
        written.nodes.update(part.node for part in place.parts)
        log.info("placed job %s: %s", place.job, [(part.node, [p.gpu for p in part.pieces]) for part in place.parts])
    if fitting:
        move_jobs([jobs[place.job] for place in fitting], JobEvent.PLACE, now=now)
        rows = [row for place in fitting for row in _rows(place, jobs[place.job], slots, charges, now)]
        Allocation.objects.bulk_create(rows)
        _hold([slots[card] for card in taken])
    return written


def lock_slots(parts: Iterable[Part]) -> dict[int, Slot]:
    """The one whole slot of each card of these parts, by card, with its card; both locked. A card that has none, or
    several, is left out."""
    cards = {piece.gpu for part in parts for piece in part.pieces}
    found: dict[int, list[Slot]] = defaultdict(list)
    rows = Slot.objects.filter(gpu__in=cards, kind=SlotKind.WHOLE, retired_at__isnull=True).select_related("gpu")
    for slot in rows.order_by("gpu_id", "pk").select_for_update(of=("self", "gpu"), no_key=True):
        found[slot.gpu_id].append(slot)
    return {card: slots[0] for card, slots in found.items() if len(slots) == 1}


def _obstacle(
    place: Place,
    job: Job | None,
    cards: Sequence[int],
    slots: Mapping[int, Slot],
    ready: set[int],
    taken: set[int],
) -> str:
    """Why the place cannot be had any more, or nothing."""
    if job is None or job.state != JobState.QUEUED:
        return "it changed in the meantime"
    if any(part.node not in ready for part in place.parts):
        return "a node takes no work any more"
    for card in cards:
        slot = slots.get(card)
        if slot is None:
            return "a slot was retired"
        gpu = slot.gpu
        kept = slot.claimed_for_id is not None and slot.claimed_for_id != job.pk
        cut = gpu.retired_at is not None or gpu.layout_version != slot.layout_version
        if gpu.quarantined_at is not None:
            return f"card {card} is in quarantine"
        if kept or cut or card in taken or slot.held_by_id or gpu.held_units > GPU_UNITS - slot.units:
            return f"slot {slot.pk} is not free"
    return "" if len(set(cards)) == len(cards) else "it names a card twice"


def _rows(
    place: Place, job: Job, slots: Mapping[int, Slot], charges: Charges, now: datetime
) -> Iterable[Allocation]:  # fmt: skip
    for index, part in enumerate(place.parts):
        held = sorted((slots[piece.gpu] for piece in part.pieces), key=lambda slot: (slot.gpu.index, slot.pk))
        units = charges.of(part, place.pool)
        for rank, slot in enumerate(held or [None]):
            lead = rank == 0
            yield Allocation(
                job=job,
                attempt=job.attempt,
                part=index,
                lead=lead,
                node_id=part.node,
                slot=slot,
                units=slot.units if slot else 0,
                cpu_millis=job.cpu_millis if lead else 0,
                memory_mib=job.memory_mib if lead else 0,
                charge=units if lead else 0,
                held_at=now,
            )


def _hold(slots: Sequence[Slot]) -> None:
    """Guarded once more: the slots go to the jobs whose allocations they have now, and the cards count their units."""
    holder = Allocation.objects.filter(slot=OuterRef("pk"), released_at__isnull=True).values("job")
    free = Slot.objects.filter(pk__in=[slot.pk for slot in slots], retired_at__isnull=True, held_by__isnull=True)
    if free.update(held_by=Subquery(holder[:1])) != len(slots):
        raise SlotTaken("somebody else took a slot in this very moment")
    cards: dict[int, list[int]] = defaultdict(list)
    for slot in slots:
        cards[slot.units].append(slot.gpu_id)
    for units, gpus in cards.items():
        room = Gpu.objects.filter(pk__in=gpus, retired_at__isnull=True, held_units__lte=GPU_UNITS - units)
        if room.update(held_units=F("held_units") + units) != len(gpus):
            raise SlotTaken("a card lost its room in this very moment")


def _give_up_claims(places: Sequence[Place], now: datetime) -> None:
    """A claimed place that cannot be had would be tried for ever: the job looks for another one in the next cycle. If
    it is the job that changed, its claim has gone, or goes, with that."""
    versions = {place.job: place.version for place in places}
    claims = Claim.objects.filter(job__in=list(versions), job__state=JobState.QUEUED)
    lost = [job for job, version in claims.values_list("job_id", "job__version") if versions[job] == version]
    if lost and end_claims(lost, now=now):
        log.warning("claims of jobs %s ended: their places cannot be had", lost)
