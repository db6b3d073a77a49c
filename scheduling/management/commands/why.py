"""`manage.py why JOB`: why a job waits, on which terms it stands in the queue, when it starts, what would start it."""

from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.kernel import clock
from scheduling.core.explain import Names, sentence
from scheduling.models import Job, Node
from scheduling.records.arrays import first_ask
from scheduling.records.holds import in_words
from scheduling.records.promises import first_start, in_time, remember_promises
from scheduling.selectors import changes_that_start, estimates, job_details
from scheduling.wiring import wired
from tenants.management.asking import started_once
from tenants.models import Team


class Command(BaseCommand):
    help = "Explain one waiting job. What would start it now is proven by a plan for each change."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", type=int, metavar="JOB")

    def handle(self, *args: object, **options: Any) -> None:
        started_once()
        job = Job.objects.select_related("team", "owner").filter(pk=options["job"]).first()
        if job is None:
            raise CommandError(f"There is no job {options['job']}.")
        for line in _told(job, clock.now()):
            self.stdout.write(line)


def _told(job: Job, now: datetime) -> Iterator[str]:
    yield f"job {job.pk} '{job.name}' of {job.owner.username} in {job.team.slug}: {job.state}"
    told = estimates(now=now)
    remember_promises({other: estimate.late_at for other, estimate in told.items()})
    expected = told.get(first_ask(job))
    if expected is None:
        yield from _first_promise(job)
        return
    detail = job_details([job])[job.pk]
    why = sentence(job.hold_code, job.hold_numbers, _names(job))
    yield f"why      {why or 'The scheduler looks at it in a moment.'}"
    yield f"place    {detail.position or 'not known yet'}"
    tiers = [tier.name for tier in wired().policy.tiers]
    yield f"terms    {in_words(job.terms, tiers) or 'not known yet'}"
    if detail.reserved_at:
        yield f"kept     a place from {_minute(detail.reserved_at)} at the latest"
    basis = "from how long such jobs ran" if expected.learned else "with every job at its time limit"
    yield f"start    likely {_minute(expected.likely_at)}, late {_minute(expected.late_at)} ({basis})"
    if job.start_by_at is not None and job.start_by_at != expected.late_at:
        yield f"promise  to start by {_minute(job.start_by_at)}, as the first estimate said"
    granted = [tier.name for tier in wired().policy.tiers if not tier.critical]
    for change in changes_that_start(job, tiers=granted, now=now):
        yield f"or now   with {change.what} {change.value}"


def _names(job: Job) -> Names:
    """Whoever may run this may know who has booked what."""
    return Names(
        dict(Node.objects.filter(pk=job.hold_numbers.get("node")).values_list("pk", "name")),
        dict(Team.objects.filter(pk=job.hold_numbers.get("team")).values_list("pk", "slug")),
    )


def _first_promise(job: Job) -> Iterator[str]:
    """Of a job that waits no longer: did it start when the first estimate said?"""
    started = first_start(job)
    if job.start_by_at is not None and started is not None:
        kept = "kept" if in_time(job.start_by_at, started) else "not kept"
        yield f"promise  to start by {_minute(job.start_by_at)}: {kept}, it started {_minute(started)}"


def _minute(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "not within a month"
