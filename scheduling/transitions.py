"""The only writer of `job.state`: one guarded update and one history row, in the caller's transaction."""

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction

from portal.kernel.errors import Conflict
from scheduling.core.lifecycle import FINAL, EndReason, JobEvent, JobState, next_state
from scheduling.models import Job, JobTransition
from scheduling.news import tell, tell_gateways
from scheduling.records.claims import end_claim


class StaleJob(Conflict):
    """Job {job} changed in the meantime; look again and repeat what you wanted if it still applies."""


def move_job(
    job: Job,
    event: JobEvent,
    *,
    now: datetime,
    reason: EndReason | None = None,
    code: str = "",
    message: str = "",
    log_tail: str = "",
    requeue: bool = False,
    also: Mapping[str, object] | None = None,
) -> Job:
    """Apply one event of the lifecycle table. Raises IllegalMove for a move that the table does not have, and StaleJob
    when the row is no longer what `job` says; in both cases nothing was written.

    The first reason to stop is kept: RELEASED ends the job with the reason that STOP brought. `also`: further columns
    that this move writes. A job that leaves the queue takes its claim with it.
    """
    before = JobState(job.state)
    if event is JobEvent.RELEASED:
        reason = EndReason(job.end_reason)
    after = next_state(before, event, reason=reason, requeue=requeue)

    fields: dict[str, object] = {"state": after, "version": job.version + 1, "since_at": now}
    if event in (JobEvent.STOP, JobEvent.END):
        fields |= {"end_reason": reason, "end_code": code, "end_message": message, "log_tail": log_tail}
    if event is JobEvent.PLACE and before is JobState.QUEUED:
        fields |= {"attempt": job.attempt + 1, "hold_code": "", "hold_numbers": {}, "terms": {}}
    if event is JobEvent.READY and before is JobState.STARTING:
        fields["running_at"] = now
    if after in FINAL:
        fields["ended_at"] = now
    if after is JobState.QUEUED:
        fields |= {"running_at": None, "end_reason": "", "end_code": "", "end_message": "", "log_tail": ""}

    fields |= also or {}
    with transaction.atomic():
        if before is JobState.QUEUED:
            # Before the row, as everywhere: whoever settles use locks the pool, then jobs, then nodes.
            end_claim(job, now=now)
        if not Job.objects.filter(pk=job.pk, state=before, version=job.version).update(**fields):
            raise StaleJob(job=job.pk)
    for name, value in fields.items():
        setattr(job, name, value)
    JobTransition.objects.create(
        job=job,
        attempt=job.attempt,
        from_state=before,
        to_state=after,
        event=event,
        reason=reason or "",
        message=message,
        at=now,
    )
    tell(job)
    tell_gateways(job, before=before, after=after)
    return job
