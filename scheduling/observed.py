"""What a node's report changes. Safe to repeat, lose and get late: each part says what *is*, not what happened."""

import logging
from collections.abc import Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import F

from scheduling.core.lifecycle import EndReason, JobEvent, JobState
from scheduling.desired import desired_for
from scheduling.enact import wake_on_commit
from scheduling.inventory import record_inventory, record_samples
from scheduling.models import Allocation, Gpu, Job, Node
from scheduling.news import tell
from scheduling.nodes.driver import Observation, Phase
from scheduling.nodes.exchange import Desired, Report
from scheduling.transitions import StaleJob, move_job
from scheduling.wiring import wired

log = logging.getLogger("berth.observed")

_STARTED = frozenset({Phase.STARTING, Phase.READY, Phase.EXITED})


class UnknownNode(ConnectionError):
    """No node of that name is enrolled."""


def exchange(report: Report, *, now: datetime) -> Desired:
    """Take a report, answer the desired state: the control plane's side of the node protocol."""
    if report.inventory is not None:
        record_inventory(report.node, report.inventory, now=now)
    node = Node.objects.filter(name=report.node).first()
    if node is None:
        raise UnknownNode(report.node)
    _note_alive(node, report, now)
    record_samples(report.samples)
    for observation in report.observations:
        try:
            with transaction.atomic():
                _apply(node, observation, now)
        except StaleJob:
            log.info("allocation %s: its job moved meanwhile, the next report settles it", observation.allocation)
    node.refresh_from_db(fields=["desired_version"])
    return desired_for(node)


def _note_alive(node: Node, report: Report, now: datetime) -> None:
    back = node.trouble != report.trouble or node.seen_at is None
    Node.objects.filter(pk=node.pk).update(seen_at=now, trouble=report.trouble[:300], boot_id=report.boot_id)
    if back:  # it can take work again, or no longer
        log.log(
            logging.WARNING if report.trouble else logging.INFO, "node %s: %s", node.name, report.trouble or "answers"
        )
        transaction.on_commit(wired().hint_tick)


def _apply(node: Node, seen: Observation, now: datetime) -> None:
    if not seen.allocation.isdigit():
        return
    lead = (
        Allocation.objects.select_related("job")
        .filter(pk=int(seen.allocation), node=node, lead=True, released_at__isnull=True)
        .first()
    )
    if lead is None:  # released already, or never ours
        return
    job = lead.job
    if seen.phase is not Phase.GONE or job.state == JobState.STOPPING:
        _note_phase(lead, seen, now)
    match seen.phase:
        case Phase.STARTING | Phase.READY:
            _advance(job, seen.phase, now)
        case Phase.EXITED:
            _exited(job, seen, now)
        case Phase.REFUSED:
            if job.state in (JobState.PLACED, JobState.STARTING):
                _stop(job, EndReason.LAUNCH_REFUSED, seen, now)
        case Phase.GONE:
            _gone(lead, job, seen, now)


def _note_phase(lead: Allocation, seen: Observation, now: datetime) -> None:
    done, total = seen.progress or (lead.progress_done, lead.progress_total)
    if (lead.phase, lead.progress_done, lead.progress_total) == (seen.phase, done, total):
        return
    fields: dict[str, object] = {"phase": seen.phase, "phase_at": now, "progress_done": done, "progress_total": total}
    if seen.image_digest:
        fields["image_digest"] = seen.image_digest
    Allocation.objects.filter(job_id=lead.job_id, attempt=lead.attempt, part=lead.part).update(**fields)
    tell(lead.job, done=done, total=total)


def _parts_in(job: Job, phases: Sequence[Phase]) -> bool:
    """Have all parts of the present attempt reached one of the phases?"""
    leads = Allocation.objects.filter(job=job, attempt=job.attempt, lead=True)
    return not leads.exclude(phase__in=[str(phase) for phase in phases]).exists()


def _advance(job: Job, phase: Phase, now: datetime) -> None:
    if job.state == JobState.PLACED and _parts_in(job, sorted(_STARTED)):
        move_job(job, JobEvent.LAUNCHED, now=now)
    if phase is Phase.READY and job.state == JobState.STARTING and _parts_in(job, [Phase.READY]):
        move_job(job, JobEvent.READY, now=now)


def _exited(job: Job, seen: Observation, now: datetime) -> None:
    if job.state == JobState.PLACED:
        move_job(job, JobEvent.LAUNCHED, now=now)
    if job.state in (JobState.STARTING, JobState.RUNNING):
        succeeded = seen.exit_code == 0 and job.state == JobState.RUNNING
        _stop(job, EndReason.SUCCEEDED if succeeded else EndReason.EXITED, seen, now)


def _gone(lead: Allocation, job: Job, seen: Observation, now: datetime) -> None:
    if job.state in (JobState.STARTING, JobState.RUNNING):
        _stop(job, EndReason.EXITED, seen, now)
    if job.state == JobState.STOPPING:
        _release(lead, job, now)


def _stop(job: Job, reason: EndReason, seen: Observation, now: datetime) -> None:
    message = seen.message or ("It ended." if reason is EndReason.SUCCEEDED else "It ended by itself.")
    move_job(
        job,
        JobEvent.STOP,
        now=now,
        reason=reason,
        code=seen.code or str(reason),
        message=message,
        log_tail=seen.log_tail,
    )
    nodes = Allocation.objects.filter(job=job, released_at__isnull=True).values_list("node_id", flat=True)
    wake_on_commit(set(nodes))


def _release(lead: Allocation, job: Job, now: datetime) -> None:
    """The container was seen gone: free the part's slots, and end the job with its last part."""
    rows = Allocation.objects.filter(job=job, attempt=lead.attempt, part=lead.part, released_at__isnull=True)
    for row in rows.select_related("slot"):
        if row.slot is not None:
            Gpu.objects.filter(pk=row.slot.gpu_id).update(held_units=F("held_units") - row.units)
    rows.update(released_at=now)
    wake_on_commit({lead.node_id})
    if not Allocation.objects.filter(job=job, released_at__isnull=True).exists():
        move_job(job, JobEvent.RELEASED, now=now)
    transaction.on_commit(wired().hint_tick)
