"""What becomes of a card and of the work on it when its node tells how it is: quarantine, and the way back.

The rules are in `nodes/health.py`. A finding that holds the card back quarantines it: nothing new is placed or begun
there, and where it is sick, what runs there is stopped and goes back to the queue. It comes back with the first check
that finds nothing; after an error that does not show again (an Xid), only once the machine was restarted or a person
said that it was put right.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q

from portal.kernel.errors import Conflict, Missing
from portal.kernel.publish import publish
from scheduling.core.lifecycle import FINAL, EndReason, IllegalMove, JobEvent, JobState
from scheduling.enact import wake_on_commit
from scheduling.models import Allocation, Gpu, GpuEvent, Job, Node
from scheduling.news import tell
from scheduling.nodes.health import Finding, Health, Severity, Xid, finding_of_xid, findings_of, worst
from scheduling.transitions import StaleJob, move_job
from scheduling.wiring import wired
from tenants.models import User

log = logging.getLogger("berth.gpus")

SICK_SENTENCE = "GPU {index} of {node} is out of order: {why}"
#: of each card; more than an agent tells again, or an old one would count as new
KEPT_EVENTS = 200
_ORDER = list(Severity)
_COLUMNS = ("quarantined_at", "quarantine_code", "quarantine_reason", "quarantine_severity", "quarantine_boot_id")


class NoSuchGpu(Missing):
    """There is no GPU '{uuid}' on the node '{node}'."""


class NotQuarantined(Conflict):
    """GPU {index} of {node} is not in quarantine any more."""


def record_health(node: Node, told: Sequence[Health], *, boot_id: str, now: datetime) -> None:
    """Act on what the node tells of its cards. Safe to repeat and to lose; a card whose work moved in this very moment
    waits for the next report."""
    cards = {gpu.uuid: gpu for gpu in Gpu.objects.filter(node=node, retired_at__isnull=True)} if told else {}
    known = _known_xids(cards, told, boot_id)
    for health in told:
        gpu = cards.get(health.gpu_uuid)
        if gpu is None:
            continue
        fresh = [xid for xid in health.xids if (gpu.pk, xid.number, xid.boot_ms) not in known]
        try:
            with transaction.atomic():
                _record(node, gpu, health, fresh, boot_id, now)
        except (StaleJob, IllegalMove) as why:
            log.info("GPU %s: %s; the next report settles it", gpu.uuid, why)


def clear_quarantine(*, by: User, node: str, uuid: str) -> Gpu:
    """A person says that the card was put right: what does not show again counts no more, and the next check that finds
    nothing brings it back. Raises NoSuchGpu, NotQuarantined."""
    gpu = Gpu.objects.select_related("node").filter(uuid=uuid, node__name=node, retired_at__isnull=True).first()
    if gpu is None:
        raise NoSuchGpu(uuid=uuid, node=node)
    held_back = Gpu.objects.filter(pk=gpu.pk, quarantined_at__isnull=False)
    if not held_back.update(quarantine_boot_id=""):
        raise NotQuarantined(index=gpu.index, node=node)
    log.warning("GPU %s of %s: %s says that it was put right (%s)", gpu.uuid, node, by, gpu.quarantine_reason)
    return gpu


def _known_xids(cards: dict[str, Gpu], told: Sequence[Health], boot_id: str) -> set[tuple[int, int, int]]:
    with_xids = [cards[health.gpu_uuid].pk for health in told if health.xids and health.gpu_uuid in cards]
    if not with_xids:
        return set()
    rows = GpuEvent.objects.filter(gpu__in=with_xids, boot_id=boot_id)
    return set(rows.values_list("gpu_id", "xid", "boot_ms"))


def _record(node: Node, gpu: Gpu, health: Health, fresh: list[Xid], boot_id: str, now: datetime) -> None:
    findings = list(findings_of(health))
    for xid in fresh:
        findings.append(_note_xid(gpu, xid, health, boot_id, now))
    bad = [finding for finding in findings if finding.severity is not Severity.NOTE]
    lasts = gpu.quarantine_boot_id == _boot(boot_id)
    latched = any(finding.lasting for finding in bad)
    if latched:
        gpu.quarantine_boot_id = _boot(boot_id)
    found = worst(bad)
    changed = True
    if found and _is_news(gpu, found, lasts=lasts):
        gpu.quarantined_at = gpu.quarantined_at or now
        gpu.quarantine_code, gpu.quarantine_reason = found.code, found.sentence
        gpu.quarantine_severity = found.severity
        log.warning("GPU %s of %s is in quarantine: %s", gpu.uuid, node.name, found.sentence)
    elif not found and gpu.quarantined_at is not None and not lasts:
        log.warning("GPU %s of %s is clean and comes back (was: %s)", gpu.uuid, node.name, gpu.quarantine_reason)
        gpu.quarantined_at, gpu.quarantine_boot_id = None, ""
        gpu.quarantine_code = gpu.quarantine_reason = gpu.quarantine_severity = ""
    else:
        changed = latched
    if gpu.quarantined_at is not None:
        _stop_jobs(node, gpu, now)
    if changed:  # after the jobs, which come before cards wherever several are locked
        _tell_planner(gpu)
        gpu.save(update_fields=_COLUMNS)
        publish("node", node.pk)
        transaction.on_commit(wired().hint_tick)


def _is_news(gpu: Gpu, found: Finding, *, lasts: bool) -> bool:
    """What lasts is replaced by what is worse only, anything else by whatever is wrong now."""
    if gpu.quarantined_at is None:
        return True
    worse = _ORDER.index(found.severity) > _ORDER.index(Severity(gpu.quarantine_severity))
    return worse or (not lasts and gpu.quarantine_code != found.code)


def _boot(boot_id: str) -> str:
    return boot_id or "unknown"


def _note_xid(gpu: Gpu, xid: Xid, health: Health, boot_id: str, now: datetime) -> Finding:
    """Keep it, with the job that ran there at that time, and tell that job's people."""
    finding = finding_of_xid(xid.number)
    at = now - timedelta(milliseconds=max(0, health.boot_ms - xid.boot_ms))
    then = Allocation.objects.filter(
        Q(released_at__isnull=True) | Q(released_at__gte=at), slot__gpu=gpu, held_at__lte=at
    )
    held = then.select_related("job").order_by("-id").first()
    GpuEvent.objects.create(
        gpu=gpu,
        boot_id=boot_id,
        xid=xid.number,
        boot_ms=xid.boot_ms,
        at=at,
        sentence=finding.sentence,
        job=held.job if held else None,
        attempt=held.attempt if held else 0,
    )
    log.warning("GPU %s: %s (job %s)", gpu.uuid, finding.sentence, held.job_id if held else "none")
    if held:
        tell(held.job)
    older = GpuEvent.objects.filter(gpu=gpu).order_by("-id").values_list("pk", flat=True)[KEPT_EVENTS:]
    GpuEvent.objects.filter(pk__in=list(older)).delete()
    return finding


def _tell_planner(gpu: Gpu) -> None:
    """What holds the card is planned for otherwise from now on (`shaping.ask_of_run`), so it is another version."""
    held = Allocation.objects.filter(slot__gpu=gpu, released_at__isnull=True).values("job_id")
    Job.objects.filter(pk__in=held).update(version=F("version") + 1)


def _stop_jobs(node: Node, gpu: Gpu, now: datetime) -> None:
    """Whatever has a part on the card stops with all its parts and goes back to the queue; unless the card can wait,
    when that is only what has not begun there yet."""
    if not gpu.held_units:
        return
    held = Allocation.objects.filter(slot__gpu=gpu, released_at__isnull=True).values("job_id")
    jobs = Job.objects.filter(pk__in=held).exclude(state__in=[*FINAL, JobState.STOPPING])
    if gpu.quarantine_severity != Severity.SICK:
        jobs = jobs.filter(state=JobState.PLACED)
    for job in jobs.order_by("id"):
        message = SICK_SENTENCE.format(index=gpu.index, node=node.name, why=gpu.quarantine_reason)
        code = gpu.quarantine_code
        move_job(job, JobEvent.STOP, now=now, reason=EndReason.GPU_SICK, code=code, message=message)
        parts = Allocation.objects.filter(job=job, released_at__isnull=True)
        wake_on_commit(set(parts.values_list("node_id", flat=True)))
