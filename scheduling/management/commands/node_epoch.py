"""`manage.py node_epoch`: after the database was restored from a backup."""

from django.core.management.base import BaseCommand

from portal.kernel import clock
from scheduling import enrolment


class Command(BaseCommand):
    help = "Make agents accept this database's desired states although they were told newer ones before a restore."

    def handle(self, *args: object, **options: object) -> None:
        self.stdout.write(f"{enrolment.begin_epoch(now=clock.now())} nodes take their desired state anew.")
