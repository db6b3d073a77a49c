"""The only writer of `job.state`: one guarded update and one history row for each move, in the caller's transaction.

One job by `move_job`; as many as a cycle moves by `lock_jobs`, then `move_jobs`, in a fixed number of statements.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime

from django.db import transaction
from django.db.models import F

from portal.kernel.errors import Conflict
from scheduling.core.lifecycle import FINAL, EndReason, JobEvent, JobState, next_state
from scheduling.models import Job, JobTransition
from scheduling.news import tell, tell_all, tell_gateways
from scheduling.records.claims import end_claims

#: what a move needs to know of a job, and those who hear of it
_COLUMNS = ("state", "version", "attempt", "owner_id", "team_id", "face", "cpu_millis", "memory_mib")


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
    fields: dict[str, object] = {"version": job.version + 1}
    if _begins_attempt(before, event):
        fields["attempt"] = job.attempt + 1
    fields |= _fields(before, event, after, now, reason, code, message, log_tail) | dict(also or {})
    with transaction.atomic():
        if before is JobState.QUEUED:
            # Before the row, as everywhere: whoever settles use locks the pool, then jobs, then nodes.
            end_claims([job.pk], now=now)
        if not Job.objects.filter(pk=job.pk, state=before, version=job.version).update(**fields):
            raise StaleJob(job=job.pk)
    for name, value in fields.items():
        setattr(job, name, value)
    _history(job, before, event, reason, message, now).save(force_insert=True)
    tell(job)
    tell_gateways(job, before=before, after=after)
    return job


def lock_jobs(versions: Mapping[int, int]) -> dict[int, Job]:
    """Those of these jobs (id -> version) that are still so, with the columns that a move needs; nobody else can move
    them until the transaction ends. One statement."""
    rows = Job.objects.filter(pk__in=list(versions)).order_by("pk").only(*_COLUMNS)
    return {job.pk: job for job in rows.select_for_update(no_key=True) if job.version == versions[job.pk]}


def move_jobs(
    jobs: Collection[Job],
    event: JobEvent,
    *,
    now: datetime,
    reason: EndReason | None = None,
    code: str = "",
    message: str = "",
) -> None:
    """`move_job` for rows that `lock_jobs` gave, all with the same event and reason; all of them or, where one is not
    as it was locked (StaleJob) or must not move so (IllegalMove), none: call it in a savepoint.

    A fixed number of statements for each state that the jobs are in.
    """
    groups: dict[JobState, list[Job]] = defaultdict(list)
    for job in jobs:
        groups[JobState(job.state)].append(job)
    history = []
    for before, group in groups.items():
        after = next_state(before, event, reason=reason)
        fields = _fields(before, event, after, now, reason, code, message, "")
        counted = {"version": F("version") + 1}
        if _begins_attempt(before, event):
            counted["attempt"] = F("attempt") + 1
        if before is JobState.QUEUED:
            end_claims([job.pk for job in group], now=now)
        rows = Job.objects.filter(pk__in=[job.pk for job in group], state=before)
        if rows.update(**counted, **fields) != len(group):
            raise StaleJob(job=group[0].pk)
        for job in group:
            for name, value in fields.items():
                setattr(job, name, value)
            for name in counted:
                setattr(job, name, getattr(job, name) + 1)
            history.append(_history(job, before, event, reason, message, now))
            tell_gateways(job, before=before, after=after)
    JobTransition.objects.bulk_create(history)
    tell_all(jobs)


def _begins_attempt(before: JobState, event: JobEvent) -> bool:
    return event is JobEvent.PLACE and before is JobState.QUEUED


def _fields(
    before: JobState,
    event: JobEvent,
    after: JobState,
    now: datetime,
    reason: EndReason | None,
    code: str,
    message: str,
    log_tail: str,
) -> dict[str, object]:
    """What the move writes whichever job it is."""
    fields: dict[str, object] = {"state": after, "since_at": now}
    if event in (JobEvent.STOP, JobEvent.END):
        fields |= {"end_reason": reason, "end_code": code, "end_message": message, "log_tail": log_tail}
    if _begins_attempt(before, event):
        fields |= {"hold_code": "", "hold_numbers": {}, "terms": {}}
    if event is JobEvent.READY and before is JobState.STARTING:
        fields["running_at"] = now
    if after in FINAL:
        fields["ended_at"] = now
    if after is JobState.QUEUED:
        fields |= {"running_at": None, "end_reason": "", "end_code": "", "end_message": "", "log_tail": ""}
    return fields


def _history(
    job: Job, before: JobState, event: JobEvent, reason: EndReason | None, message: str, now: datetime
) -> JobTransition:
    return JobTransition(
        job=job,
        attempt=job.attempt,
        from_state=before,
        to_state=job.state,
        event=event,
        reason=reason or "",
        message=message,
        at=now,
    )
