"""`manage.py bookings`: what `manage.py book` has kept for whom; `--cancel N` gives it back."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.kernel import clock
from scheduling.models import Booking
from scheduling.wiring import wired
from tenants.management.asking import started_once


class Command(BaseCommand):
    help = "List the bookings that are not over. --cancel gives back what a booking still keeps."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--cancel", type=int, metavar="N", help="the booking's number")

    def handle(self, *args: object, **options: Any) -> None:
        started_once()
        rows = Booking.objects.filter(ends_at__gt=clock.now()).select_related("team").prefetch_related("nodes")
        if options["cancel"] is not None:
            booking = rows.filter(pk=options["cancel"]).first()
            if booking is None:
                raise CommandError(f"There is no booking {options['cancel']}, or it is over.")
            told = _told(booking)
            booking.delete()
            wired().hint_tick()
            self.stdout.write(f"cancelled: {told}")
            return
        for booking in rows:
            self.stdout.write(_told(booking))
        if not rows:
            self.stdout.write("nothing is booked")


def _told(booking: Booking) -> str:
    nodes = ", ".join(sorted(node.name for node in booking.nodes.all()))
    note = f" ({booking.note})" if booking.note else ""
    span = f"{booking.starts_at:%Y-%m-%d %H:%M} to {booking.ends_at:%Y-%m-%d %H:%M} UTC"
    return f"booking {booking.pk}: {nodes} for {booking.team.slug}, {span}{note}"
