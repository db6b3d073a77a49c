"""What may be asked of the scheduler: submit, cancel, stop everything."""

from collections.abc import Sequence
from datetime import datetime

from django.db import IntegrityError, transaction

from portal.kernel.errors import Rejected
from portal.kernel.locks import one_after_another
from portal.kernel.publish import publish
from scheduling.core.cluster import Ask
from scheduling.core.lifecycle import FINAL, REQUEUED, RETRIED, EndReason, JobEvent, JobState
from scheduling.enact import wake_on_commit
from scheduling.models import Allocation, Job, JobTransition
from scheduling.news import tell
from scheduling.submission.hopes import Prospects, kind_of, refuse_what_never_fits, weigh_deadline
from scheduling.submission.once import Once
from scheduling.submission.spec import JobSpec, home_of
from scheduling.transitions import StaleJob, lock_jobs, move_job, move_jobs
from scheduling.wiring import wired
from tenants.models import Team, User
from tenants.permissions import may_submit, teams_to_work_in

__all__ = [
    "JobSpec",
    "NotYourTeam",
    "Once",
    "cancel_job",
    "home_of",
    "judge_job",
    "refuse_what_never_fits",
    "stop_all",
    "submit_job",
    "submit_jobs",
]

#: of different kinds in one batch: each is judged by a plan of its own
MOST_KINDS = 200


class NotYourTeam(Rejected):
    """You cannot run work in the team '{team}'; choose one that you are a member of."""

    field = "team"


def judge_job(*, by: User, team: Team, spec: JobSpec, now: datetime) -> Job:
    """The job as it would be queued; nothing is saved. Raises the first reason why it may not be submitted, or could
    never start. It plans, so no transaction should be open."""
    if not may_submit(by, team):
        raise NotYourTeam(team=team.slug)
    job = spec.as_job(team=team, owner=by, now=now)
    prospects = Prospects(now)
    prospects.refuse_what_makes_no_sense(job, by=by)
    prospects.refuse_what_cannot_be(job)
    return job


def submit_job(
    *, by: User, team: Team, spec: JobSpec, now: datetime, judged: bool = False, once: Once | None = None
) -> Job:
    """Queue a job. Permission, rights and never-fits are checked here, once, for every edge; `judged`: the caller, who
    has opened a transaction, has just done so with `judge_job`.

    With a deadline the answer's `deadline_accepted` says whether it will be met, which is so only if the queue run
    forward to the limits of all jobs meets it, and `promised_at` when the job then starts (None: not within a month).
    A deadline that is not accepted orders nothing; the job is queued all the same. `once`: the request that asks for
    it; repeated, it is answered with the job that it made.
    """
    if once and (earlier := once.earlier()):
        return earlier[0]
    if judged:
        job = spec.as_job(team=team, owner=by, now=now)
    else:
        job = judge_job(by=by, team=team, spec=spec, now=now)
    try:
        if job.deadline_at is None:
            _queue(job, once, now)
        else:
            # The next one is weighed with this one in the queue: two that were weighed at the same moment would both
            # be promised the same cards.
            with one_after_another("deadlines"):
                job.deadline_accepted, job.promised_at = weigh_deadline(job, now=now)
                _queue(job, once, now)
    except IntegrityError:
        if once and (twin := once.earlier()):  # it came twice at the same moment
            return twin[0]
        raise
    return job


def _queue(job: Job, once: Once | None, now: datetime) -> None:
    with transaction.atomic():
        job.save(force_insert=True)
        JobTransition.objects.create(job=job, attempt=0, to_state=job.state, event="submit", at=now)
        if once:
            once.remember([job], now=now)
        if job.face:
            tell(job)
        else:  # nobody shows it yet
            publish("person", job.owner_id)
        transaction.on_commit(wired().hint_tick)


class TooManyKinds(Rejected):
    """Jobs that are submitted together may be of {most} different kinds (sizes, limits, tiers, teams); make several
    lists of them."""


class NoDeadlineAmongMany(Rejected):
    """A deadline is weighed against the whole queue, so a job that has one is submitted by itself."""

    field = "deadline"


class BadOne(Rejected):
    """Job {number} of the list: {why}"""

    def __init__(self, *, index: int, why: Rejected) -> None:
        self.code, self.field = why.code, f"{index}.{why.field}".rstrip(".")  # type: ignore[misc]
        super().__init__(number=index + 1, why=why.sentence)


def submit_jobs(*, by: User, asked: Sequence[tuple[Team, JobSpec]], now: datetime, once: Once | None) -> list[Job]:
    """Queue all of these jobs or none, in a number of statements that does not depend on how many there are. (SQLite
    takes few parameters in one statement, so there the rows go in pieces.) Raises BadOne for the first that cannot be.

    `once`: as for `submit_job`.
    """
    if once and (earlier := once.earlier()):
        return earlier
    jobs = [spec.as_job(team=team, owner=by, now=now) for team, spec in asked]
    _refuse_a_bad_one(jobs, by=by, prospects=Prospects(now))
    try:
        with transaction.atomic():
            Job.objects.bulk_create(jobs)
            JobTransition.objects.bulk_create(
                JobTransition(job=job, attempt=0, to_state=job.state, event="submit", at=now) for job in jobs
            )
            if once:
                once.remember(jobs, now=now)
            publish("person", by.pk)  # nobody shows one of these jobs yet
            transaction.on_commit(wired().hint_tick)
    except IntegrityError:
        if once and (twins := once.earlier()):  # it came twice at the same moment
            return twins
        raise
    return jobs


def _refuse_a_bad_one(jobs: Sequence[Job], *, by: User, prospects: Prospects) -> None:
    teams = {team.pk for team in teams_to_work_in(by)}
    judged = set[Ask]()
    for index, job in enumerate(jobs):
        try:
            if job.team_id not in teams:
                raise NotYourTeam(team=job.team.slug)
            if job.deadline_at is not None:
                raise NoDeadlineAmongMany()
            kind = kind_of(job)
            if kind in judged:
                continue
            if len(judged) == MOST_KINDS:
                raise TooManyKinds(most=MOST_KINDS)
            judged.add(kind)
            prospects.refuse_what_makes_no_sense(job, by=by)
            prospects.refuse_what_cannot_be(job)
        except Rejected as why:
            raise BadOne(index=index, why=why) from why


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
        if job.array_size:
            _cancel_tasks(job, now, message, reason)
        nodes = Allocation.objects.filter(job=job, released_at__isnull=True).values_list("node_id", flat=True)
        wake_on_commit(set(nodes))
        transaction.on_commit(wired().hint_tick)
    return job


def _cancel_tasks(array: Job, now: datetime, message: str, reason: EndReason) -> None:
    """End those tasks of a cancelled array that are rows. However many run, a few statements."""
    for task in array.tasks.filter(state=JobState.QUEUED):  # few: evicted, tried again, or with a claim
        cancel_job(job=task, now=now, message=message, reason=reason)
    array.tasks.filter(state=JobState.STOPPING).update(cancel_asked=message[:200])
    for _ in range(3):  # reports may move some in the meantime
        running = array.tasks.exclude(state__in=[*FINAL, JobState.STOPPING, JobState.QUEUED])
        versions = dict(running.values_list("pk", "version"))
        if not versions:
            break
        tasks = list(lock_jobs(versions).values())
        move_jobs(tasks, JobEvent.STOP, now=now, reason=reason, code=str(reason), message=message)
    held = Allocation.objects.filter(job__array=array, released_at__isnull=True)
    wake_on_commit(set(held.values_list("node_id", flat=True)))


def _does_not_come_back(job: Job, message: str, reason: EndReason) -> bool:
    """It stops already, and the first reason is kept; but where that would send it back to the queue, it now ends
    there. False: it has gone back in this very moment, so look again."""
    if reason is not EndReason.CANCEL or EndReason(job.end_reason) not in REQUEUED | RETRIED:
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
