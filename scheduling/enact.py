"""Write a Plan: one short transaction, guarded row by row. What changed meanwhile is left for the next cycle."""

import logging
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db import transaction
from django.db.models import F

from scheduling.core.decisions import Hold, Place, Plan, Stop
from scheduling.core.lifecycle import EndReason, IllegalMove, JobEvent
from scheduling.core.units import GPU_UNITS
from scheduling.models import Allocation, Gpu, Job, Node, Slot, SlotKind
from scheduling.news import tell
from scheduling.transitions import StaleJob, move_job
from scheduling.wiring import wired

log = logging.getLogger("berth.enact")

STOP_SENTENCES = {
    EndReason.TIMED_OUT: "It reached its time limit.",
    EndReason.START_TIMEOUT: "Its server did not answer in time after the start.",
    EndReason.PLACE_TIMEOUT: "The node showed no progress in starting it.",
    EndReason.EVICT: "Its place was needed by work that goes before it.",
}


class _Outdated(Exception):
    """This decision no longer fits the rows; the savepoint rolls back and the next cycle decides anew."""


@dataclass(frozen=True, slots=True)
class Outcome:
    placed: int = 0
    stopped: int = 0
    outdated: int = 0


def enact(plan: Plan, *, now: datetime) -> Outcome:
    """Apply the plan. Wakes the nodes it touched after the commit."""
    if not (plan.places or plan.stops or plan.holds):
        return Outcome()
    placed = stopped = outdated = 0
    touched: set[int] = set()
    with transaction.atomic():
        decisions: tuple[Stop | Place, ...] = (*plan.stops, *plan.places)
        for decision in decisions:
            try:
                with transaction.atomic():
                    if isinstance(decision, Place):
                        touched |= _place(decision, now)
                        placed += 1
                    else:
                        touched |= _stop(decision, now)
                        stopped += 1
            except (_Outdated, StaleJob, IllegalMove) as why:
                outdated += 1
                log.info("left out: job %s, %s", decision.job, why)
        _hold_all(plan.holds)
        wake_on_commit(touched)
    return Outcome(placed=placed, stopped=stopped, outdated=outdated)


def wake_on_commit(nodes: set[int]) -> None:
    """Count up the desired state of these nodes, and wake their agents once the transaction is safe."""
    if not nodes:
        return
    Node.objects.filter(pk__in=nodes).update(desired_version=F("desired_version") + 1)
    names = list(Node.objects.filter(pk__in=nodes).values_list("name", flat=True))
    for name in names:
        transaction.on_commit(partial(wired().wake_node, name))


def _job(decision: Place | Stop) -> Job:
    job = Job.objects.filter(pk=decision.job, version=decision.version).first()
    if job is None:
        raise _Outdated("changed since the snapshot")
    return job


def _place(place: Place, now: datetime) -> set[int]:
    job = move_job(_job(place), JobEvent.PLACE, now=now)
    for index, part in enumerate(place.parts):
        cards = [piece.gpu for piece in part.pieces]
        slots = list(
            Slot.objects.filter(gpu__in=cards, kind=SlotKind.WHOLE, retired_at__isnull=True)
            .select_related("gpu")
            .order_by("gpu__index", "id")
        )
        if len(slots) != len(cards):
            raise _Outdated("a slot was retired")
        for slot in slots:
            _hold_units(slot)
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
                held_at=now,
            )
    log.info("placed job %s on node %s, cards %s", job.pk, place.parts[0].node, _cards(place))
    return {part.node for part in place.parts}


def _cards(place: Place) -> list[list[int]]:
    return [[piece.gpu for piece in part.pieces] for part in place.parts]


def _hold_units(slot: Slot) -> None:
    """Guarded: the card must still have the units, and still be cut as the plan saw it."""
    free = Gpu.objects.filter(
        pk=slot.gpu_id,
        retired_at__isnull=True,
        layout_version=slot.layout_version,
        held_units__lte=GPU_UNITS - slot.units,
    )
    taken = Allocation.objects.filter(slot=slot, released_at__isnull=True).exists()
    if taken or not free.update(held_units=F("held_units") + slot.units):
        raise _Outdated(f"slot {slot.pk} is not free")


def _stop(stop: Stop, now: datetime) -> set[int]:
    job = _job(stop)
    move_job(
        job, JobEvent.STOP, now=now, reason=stop.reason, code=str(stop.reason), message=STOP_SENTENCES[stop.reason]
    )
    log.info("stopping job %s: %s", job.pk, stop.reason)
    return set(Allocation.objects.filter(job=job, released_at__isnull=True).values_list("node_id", flat=True))


def _hold_all(holds: tuple[Hold, ...]) -> None:
    """Reasons are written only when they change, so that a long queue that stands still costs one query."""
    if not holds:
        return
    stored = Job.objects.in_bulk([hold.job for hold in holds])
    for position, hold in enumerate(holds, start=1):
        numbers = {**dict(hold.numbers), "position": position}
        job = stored.get(hold.job)
        if job is None or (job.hold_code, job.hold_numbers) == (str(hold.code), numbers):
            continue
        if Job.objects.filter(pk=hold.job, version=hold.version).update(hold_code=hold.code, hold_numbers=numbers):
            tell(job)
