"""`manage.py prepare`: tables, static files and the first account of a cluster, before its processes start."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal import compose
from portal.preparing import prepare


class Command(BaseCommand):
    help = "Bring the database up to date, collect static files, make the first account. Once before each start."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            compose.find_shared_servers()
        except compose.CannotStart as refusal:
            raise CommandError(str(refusal)) from None
        prepare(compose.place(), say=self.stdout.write)
