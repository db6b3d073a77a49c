"""`manage.py promises`: how many jobs started as early as the first estimate of their start had said."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand

from portal.kernel import clock
from scheduling.records.promises import Kept, kept_promises, remember_promises
from scheduling.selectors import estimates
from tenants.management.asking import started_once


class Command(BaseCommand):
    help = (
        "Say how many jobs started by the late end of the first estimate that was made for them (it aims at nine of "
        "ten). Estimates are made by `why`, for all who wait, and by --make, which may run from a timer."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, default=30, metavar="N", help="of the last N days (30)")
        parser.add_argument("--make", action="store_true", help="first make one for every waiting job that has none")

    def handle(self, *args: object, **options: Any) -> None:
        started_once()
        now = clock.now()
        if options["make"]:
            made = remember_promises({job: told.late_at for job, told in estimates(now=now).items()})
            self.stdout.write(f"made     {made}")
        found = kept_promises(since=now - timedelta(days=options["days"]), now=now)
        everybody = Kept(*(sum(getattr(row, name) for row in found.values()) for name in ("kept", "promises", "open")))
        for tier, row in [*found.items(), ("all", everybody)]:
            share = f", {100 * row.kept / row.promises:.1f} %" if row.promises else ""
            self.stdout.write(f"{tier:8} {row.kept} of {row.promises} kept{share}; {row.open} open")
