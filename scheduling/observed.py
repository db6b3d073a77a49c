"""What a node's report changes. Safe to repeat, lose and get late: each part says what *is*, not what happened."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from django.db import transaction
from django.db.models import F

from scheduling.core.cluster import Outcome, Run, requeued
from scheduling.core.lifecycle import HOLDING, EndReason, JobEvent, JobState
from scheduling.desired import desired_for
from scheduling.enact import wake_on_commit
from scheduling.gpu_health import record_health
from scheduling.inventory import record_inventory, record_samples
from scheduling.models import Allocation, Gpu, Job, Node, NodeState, Slot
from scheduling.news import tell
from scheduling.nodes.driver import Observation, Phase
from scheduling.nodes.exchange import Desired, Report
from scheduling.nodes.reconcile import LEASE_OVER
from scheduling.records.retries import MACHINE_FAULTS, counted, runs_again
from scheduling.records.usage import settle
from scheduling.shaping import DRAINED, ask_of, seconds
from scheduling.transitions import StaleJob, move_job
from scheduling.wiring import wired

log = logging.getLogger("berth.observed")

_STARTED = frozenset({Phase.STARTING, Phase.READY, Phase.EXITED})


class UnknownNode(ConnectionError):
    """No node of that name is enrolled."""


def exchange(report: Report, *, now: datetime) -> Desired:
    """Take a report, answer the desired state: the control plane's side of the node protocol."""
    return desired_for(take_report(report, now=now))


def take_report(report: Report, *, now: datetime, pool: str = "") -> Node:
    """Apply a report. Answers the node with its present version."""
    if report.inventory is not None:
        record_inventory(report.node, report.inventory, now=now, pool_name=pool)
    node = Node.objects.filter(name=report.node).first()
    if node is None:
        raise UnknownNode(report.node)
    _note_alive(node, report, now)
    record_samples(node, report.samples)
    record_health(node, report.health, boot_id=report.boot_id, now=now)  # before anything is told gone from the cards
    for observation in report.observations:
        try:
            with transaction.atomic():
                _apply(node, observation, now)
        except StaleJob:
            log.info("allocation %s: its job moved meanwhile, the next report settles it", observation.allocation)
    if report.observations or report.health:
        node.refresh_from_db(fields=["desired_version"])
    _take_back(node, report)
    return node


def _note_alive(node: Node, report: Report, now: datetime) -> None:
    trouble = report.trouble[: Node._meta.get_field("trouble").max_length]
    back = node.trouble != trouble or node.seen_at is None
    Node.objects.filter(pk=node.pk).update(seen_at=now, trouble=trouble, boot_id=report.boot_id)
    if back:  # it can take work again, or no longer
        log.log(logging.WARNING if trouble else logging.INFO, "node %s: %s", node.name, trouble or "answers")
        transaction.on_commit(wired().hint_tick)


def _take_back(node: Node, report: Report) -> None:
    """A node that was lost answers. It takes new work once it runs nothing but what it should: what was given up
    meanwhile is no part of its desired state any more, and would meet the new work on the same GPUs."""
    if node.state in (NodeState.LOST, NodeState.FENCED):
        Node.objects.filter(pk=node.pk, state=node.state).update(state=NodeState.RETURNED)
        log.warning("node %s: answers again", node.name)
    elif node.state == NodeState.RETURNED and not report.orphans and report.held_version == node.desired_version:
        state = node.returns_to or NodeState.READY
        Node.objects.filter(pk=node.pk, state=node.state).update(state=state, returns_to="")
        log.warning("node %s: %s again", node.name, state)
        transaction.on_commit(wired().hint_tick)


def release_fenced(lead: Allocation, *, now: datetime) -> None:
    """Free a part of a lost node, of which nothing can be running any more, as if it had been seen gone."""
    with transaction.atomic():
        settle(lead.node.pool.name, [(lead.job.team_id, lead.job.owner_id)], now=now)  # the pool is locked first
        _release(lead, lead.job, now)


def _apply(node: Node, seen: Observation, now: datetime) -> None:
    if not seen.allocation.isdigit():
        return
    lead = (
        Allocation.objects.select_related("job", "node__pool")
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
            elif job.state == JobState.RUNNING:  # an agent took it for running too early
                _stop(job, EndReason.EXITED, seen, now)
        case Phase.GONE:
            _gone(lead, job, seen, now)
    if seen.phase in _STARTED and lead.phase not in _STARTED:
        # Its desired state changes too: what was launched must not be launched again, and an agent is told only what
        # is newer. Last of all, for where several are locked, jobs come before nodes.
        Node.objects.filter(pk=node.pk).update(desired_version=F("desired_version") + 1)


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
    there = phase in (Phase.READY, Phase.EXITED)
    if there and job.state == JobState.STARTING and _parts_in(job, [Phase.READY, Phase.EXITED]):
        move_job(job, JobEvent.READY, now=now)


def _exited(job: Job, seen: Observation, now: datetime) -> None:
    reason = _cause(job, seen, EndReason.EXITED)
    if reason is EndReason.EXITED and seen.exit_code == 0 and not job.port and not _parts_in(job, [Phase.EXITED]):
        # Replicas that serve nothing are done one after the other; the first that fails stops the others.
        _advance(job, seen.phase, now)
        return
    if job.state == JobState.PLACED:
        move_job(job, JobEvent.LAUNCHED, now=now)
    if job.state in (JobState.STARTING, JobState.RUNNING):
        # A server that ends before it answered has failed, whatever its code; work without one may be that short.
        succeeded = seen.exit_code == 0 and (job.state == JobState.RUNNING or not job.port)
        _stop(job, EndReason.SUCCEEDED if succeeded and reason is EndReason.EXITED else reason, seen, now)


def _cause(job: Job, seen: Observation, otherwise: EndReason) -> EndReason:
    """Where a machine's restart ended the process of a job that has rules for it, the machine was lost to the job."""
    return EndReason.NODE_LOST if job.retries and seen.code in MACHINE_FAULTS else otherwise


def _gone(lead: Allocation, job: Job, seen: Observation, now: datetime) -> None:
    if job.state in (JobState.STARTING, JobState.RUNNING, JobState.STOPPING) or seen.code == LEASE_OVER:
        # First of all: it locks the pool, which comes before jobs and nodes wherever several are locked.
        settle(lead.node.pool.name, [(job.team_id, job.owner_id)], now=now)
    if seen.code == LEASE_OVER and job.state in HOLDING and job.state != JobState.STOPPING:
        _stop(job, EndReason.NODE_LOST, seen, now)
    elif job.state in (JobState.STARTING, JobState.RUNNING):
        _stop(job, _cause(job, seen, EndReason.EXITED), seen, now)
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
        also={"exit_code": seen.exit_code},
    )
    nodes = Allocation.objects.filter(job=job, released_at__isnull=True).values_list("node_id", flat=True)
    wake_on_commit(set(nodes))


def _release(lead: Allocation, job: Job, now: datetime) -> None:
    """The container was seen gone: free the part's slots, and end the job with its last part."""
    rows = Allocation.objects.filter(job=job, attempt=lead.attempt, part=lead.part, released_at__isnull=True)
    for row in rows.select_related("slot"):
        if row.slot is not None:
            Gpu.objects.filter(pk=row.slot.gpu_id).update(held_units=F("held_units") - row.units)
            Slot.objects.filter(pk=row.slot.pk).update(held_by=None, claimed_over=None)
    rows.update(released_at=now)
    if not Allocation.objects.filter(job=job, released_at__isnull=True).exists():
        _leave(job, now)
    wake_on_commit({lead.node_id})
    transaction.on_commit(wired().hint_tick)


def _leave(job: Job, now: datetime) -> None:
    """Its last part is free: it ends, or goes back to the queue where it was, calm for a while if it was evicted."""
    evicted = job.end_reason == EndReason.EVICT and job.end_code != DRAINED
    outcome = Outcome.EVICTED if evicted else Outcome.FAULT
    run = Run(ask=ask_of(job), parts=(), held_at=0)
    ask = requeued(run, now=seconds(now), outcome=outcome, no_evict_s=wired().policy.no_evict_s)
    back = {
        "may_evict_from": datetime.fromtimestamp(ask.may_evict_from, UTC) if ask.may_evict_from else None,
        "attained": ask.attained,
        "restarts": ask.restarts,
        "retried": counted(job),
    }
    comes_back = runs_again(job)
    move_job(job, JobEvent.RELEASED, now=now, requeue=comes_back, also=back if comes_back else None)
    job.refresh_from_db(fields=["cancel_asked"])  # now that the row is ours: a cancellation may have come meanwhile
    if comes_back and job.cancel_asked is not None:
        reason = EndReason.CANCEL
        move_job(job, JobEvent.END, now=now, reason=reason, code=str(reason), message=job.cancel_asked)
