"""The first estimate of each job's start, kept until it starts, so that anybody can ask how many held."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Min

from scheduling.core.lifecycle import JobEvent, JobState
from scheduling.models import Job, JobTransition


def remember_promises(late: Mapping[int, datetime | None]) -> int:
    """Keep the late end of the estimate of each waiting job that had none so far. Answers for how many."""
    untold = Job.objects.filter(state=JobState.QUEUED, start_by_at__isnull=True, pk__in=[j for j in late if late[j]])
    jobs = list(untold.only("pk", "start_by_at"))
    for job in jobs:
        job.start_by_at = late[job.pk]
    Job.objects.bulk_update(jobs, ["start_by_at"], batch_size=500)
    return len(jobs)


def in_time(start_by_at: datetime, started_at: datetime) -> bool:
    """Estimates are told to the minute, and so is this judged."""
    return started_at < start_by_at + timedelta(minutes=1)


def first_start(job: Job) -> datetime | None:
    """When it got its first place."""
    return JobTransition.objects.filter(job=job, event=JobEvent.PLACE).aggregate(first=Min("at"))["first"]


@dataclass(frozen=True, slots=True)
class Kept:
    """`kept` of `promises` that are decided: the job started in time, or not, or its time is over. `open`: it waits,
    and its time has not come. Who left the queue without a start is not counted."""

    kept: int = 0
    promises: int = 0
    open: int = 0


def kept_promises(*, since: datetime, now: datetime) -> dict[str, Kept]:
    """By tier, of the jobs that were submitted from `since` on and were told when they would start. Two queries."""
    promised = Job.objects.filter(start_by_at__isnull=False, submitted_at__gte=since)
    starts = JobTransition.objects.filter(job__in=promised, event=JobEvent.PLACE)
    first = dict(starts.order_by().values("job").annotate(first=Min("at")).values_list("job", "first"))
    found: dict[str, Kept] = {}
    for job, tier, state, start_by_at in promised.values_list("pk", "tier", "state", "start_by_at").order_by("tier"):
        assert start_by_at is not None, "the query asks for those alone"
        so_far = found.get(tier, Kept())
        if job in first:
            so_far = Kept(so_far.kept + in_time(start_by_at, first[job]), so_far.promises + 1, so_far.open)
        elif state == JobState.QUEUED and not in_time(start_by_at, now):
            so_far = Kept(so_far.kept, so_far.promises + 1, so_far.open)
        elif state == JobState.QUEUED:
            so_far = Kept(so_far.kept, so_far.promises, so_far.open + 1)
        found[tier] = so_far
    return found
