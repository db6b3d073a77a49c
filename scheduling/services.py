"""What may be asked of the scheduler: submit, cancel, stop everything."""

from datetime import datetime

from django.db import transaction

from portal.kernel.errors import Rejected
from portal.kernel.locks import one_after_another
from scheduling.core.lifecycle import FINAL, REQUEUED, EndReason, JobEvent, JobState
from scheduling.enact import wake_on_commit
from scheduling.models import Allocation, Job, JobTransition
from scheduling.news import tell
from scheduling.submission.hopes import refuse_what_cannot_be, refuse_what_never_fits, weigh_deadline
from scheduling.submission.spec import JobSpec
from scheduling.transitions import StaleJob, move_job
from scheduling.wiring import wired
from tenants.models import Team, User
from tenants.permissions import may_submit

__all__ = ["JobSpec", "NotYourTeam", "cancel_job", "judge_job", "refuse_what_never_fits", "stop_all", "submit_job"]


class NotYourTeam(Rejected):
    """You cannot run work in the team '{team}'; choose one that you are a member of."""

    field = "team"


def judge_job(*, by: User, team: Team, spec: JobSpec, now: datetime) -> Job:
    """The job as it would be queued; nothing is saved. Raises the first reason why it may not be submitted, or could
    never start. It plans, so no transaction should be open."""
    if not may_submit(by, team):
        raise NotYourTeam(team=team.slug)
    refuse_what_never_fits(gpus=spec.gpus, cpu_millis=spec.cpu_millis, memory_mib=spec.memory_mib)
    job = spec.as_job(team=team, owner=by, now=now)
    refuse_what_cannot_be(job, by=by, now=now)
    return job


def submit_job(*, by: User, team: Team, spec: JobSpec, now: datetime, judged: bool = False) -> Job:
    """Queue a job. Permission, rights and never-fits are checked here, once, for every edge; `judged`: the caller, who
    has opened a transaction, has just done so with `judge_job`.

    With a deadline the answer's `deadline_accepted` says whether it will be met, which is so only if the queue run
    forward to the limits of all jobs meets it, and `promised_at` when the job then starts (None: not within a month).
    A deadline that is not accepted orders nothing; the job is queued all the same.
    """
    if judged:
        job = spec.as_job(team=team, owner=by, now=now)
    else:
        job = judge_job(by=by, team=team, spec=spec, now=now)
    if job.deadline_at is None:
        _queue(job, now)
    else:
        # The next one is weighed with this one in the queue: two that were weighed at the same moment would both be
        # promised the same cards.
        with one_after_another("deadlines"):
            job.deadline_accepted, job.promised_at = weigh_deadline(job, now=now)
            _queue(job, now)
    return job


def _queue(job: Job, now: datetime) -> None:
    with transaction.atomic():
        job.save(force_insert=True)
        JobTransition.objects.create(job=job, attempt=0, to_state=job.state, event="submit", at=now)
        tell(job)
        transaction.on_commit(wired().hint_tick)


def cancel_job(*, job: Job, now: datetime, message: str = "", reason: EndReason = EndReason.CANCEL) -> Job:
    """Take a job off the queue, or stop it where it runs. A job that is stopping or has ended is left as it is."""
    with transaction.atomic():
        for _ in range(3):  # the scheduler or a report may have moved it in the meantime
            job.refresh_from_db()
            if job.state in FINAL:
                return job
            if job.state == JobState.STOPPING:
                if _does_not_come_back(job, message, reason):
                    return job
                continue
            event = JobEvent.END if job.state == JobState.QUEUED else JobEvent.STOP
            try:
                move_job(job, event, now=now, reason=reason, code=str(reason), message=message)
                break
            except StaleJob:
                continue
        else:
            raise StaleJob(job=job.pk)
        nodes = Allocation.objects.filter(job=job, released_at__isnull=True).values_list("node_id", flat=True)
        wake_on_commit(set(nodes))
        transaction.on_commit(wired().hint_tick)
    return job


def _does_not_come_back(job: Job, message: str, reason: EndReason) -> bool:
    """It stops already, and the first reason is kept; but where that would send it back to the queue, it now ends
    there. False: it has gone back in this very moment, so look again."""
    if reason is not EndReason.CANCEL or EndReason(job.end_reason) not in REQUEUED:
        return True
    stopping = Job.objects.filter(pk=job.pk, state=JobState.STOPPING, version=job.version)
    return bool(stopping.update(cancel_asked=message[:200]))


def stop_all(*, reason: EndReason, now: datetime) -> int:
    """Stop everything that holds a slot; what only waits goes on waiting. Answers how many jobs are stopping."""
    holding = Job.objects.filter(allocations__released_at__isnull=True).exclude(state__in=[*FINAL]).distinct()
    stopping = 0
    for job in holding:
        if job.state not in (JobState.QUEUED, JobState.STOPPING):
            stopping += 1
            cancel_job(job=job, now=now, reason=reason, message="The portal was stopped.")
    return stopping
