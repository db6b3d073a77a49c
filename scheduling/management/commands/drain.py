"""`manage.py drain NODE [--within 4h] [--dry-run]`: empty a machine, with the plan shown first."""

from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.kernel import clock
from portal.kernel.env import BadSetting, env_duration
from portal.kernel.errors import BerthError
from scheduling import drains
from scheduling.node_details import DrainView, JobLine, drain_view
from tenants.management.asking import started_once


class Command(BaseCommand):
    help = "Empty NODE: nothing new starts there, what may move leaves at once, the rest at its end or after --within."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("node", metavar="NODE")
        parser.add_argument(
            "--within", metavar="TIME", help="stop what is left after so long, e.g. 4h (default: never)"
        )
        parser.add_argument("--dry-run", action="store_true", help="show what it would mean, and change nothing")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: object, **options: Any) -> None:
        started_once()
        now, name = clock.now(), options["node"]
        try:
            until = _until(options["within"], now)
            shown = drain_view(drains.show_drain(by=None, name=name, until=until, now=now), now=now)
            for line in in_words(name, shown):
                self.stdout.write(line)
            if options["dry_run"] or not (options["yes"] or _confirmed()):
                self.stdout.write("Nothing was changed.")
                return
            drains.drain_node(by=None, name=name, until=until, now=clock.now())
        except (BerthError, BadSetting) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{name} is being emptied. `manage.py undrain {name}` takes it back into use.")


def _until(within: str | None, now: datetime) -> datetime | None:
    if within is None:
        return None
    return now + env_duration("--within", timedelta(), environ={"--within": within})


def _confirmed() -> bool:
    try:
        return input("Empty it now? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def in_words(name: str, plan: DrainView) -> Iterator[str]:
    """The plan, a line for each job."""
    for move in plan.moves:
        taking = f", in the place of {', '.join(map(_named, move.evicts))}" if move.evicts else ""
        yield f"moves   {_named(move.job)} to {', '.join(move.to)}{taking}"
    for move in plan.waits:
        start = f"starts by {move.starts_at:%Y-%m-%d %H:%M} UTC" if move.starts_at else "no start within a month"
        yield f"waits   {_named(move.job)}: {move.why} ({start})"
    for stay in plan.stays:
        then = "then it leaves" if stay.leaves else "its time limit"
        yield f"stays   {_named(stay.job)} until {stay.until:%Y-%m-%d %H:%M} UTC at the latest, {then}"
    for job in plan.delayed:
        yield f"delays  {_named(job)}, which waits and would start now"
    if plan.empty_now:
        yield f"{name} is empty."
    else:
        yield f"{name} is empty by {plan.empty_by:%Y-%m-%d %H:%M:%S} UTC at the latest."


def _named(job: JobLine) -> str:
    return f"job {job.id} '{job.name}' of {job.owner} ({job.team})"
