"""`manage.py book TEAM NODE… --from … --to …`: these machines are the team's for that time, until pages do it."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from portal.kernel import clock
from scheduling.models import Booking, Node
from scheduling.wiring import wired
from tenants.management.asking import started_once, team_named


class Command(BaseCommand):
    help = (
        "Reserve nodes for TEAM and the teams below it. Others run there only what is over by the start. Times are "
        "UTC, as 2026-12-04T08:00."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("team", metavar="TEAM")
        parser.add_argument("nodes", nargs="+", metavar="NODE")
        parser.add_argument("--from", dest="starts", required=True, metavar="TIME")
        parser.add_argument("--to", dest="ends", required=True, metavar="TIME")
        parser.add_argument("--note", default="")

    def handle(self, *args: object, **options: Any) -> None:
        started_once()
        team = team_named(options["team"])
        nodes = {node.name: node for node in Node.objects.filter(name__in=options["nodes"])}
        if absent := [name for name in options["nodes"] if name not in nodes]:
            raise CommandError(f"There is no node '{absent[0]}'.")
        starts, ends = _time(options["starts"]), _time(options["ends"])
        if not clock.now() < ends > starts:
            raise CommandError("--to must lie after --from and in the future.")
        with transaction.atomic():
            # Locked, so that two bookings that are made at once see each other.
            list(Node.objects.select_for_update().filter(name__in=nodes).order_by("pk"))
            for name, node in nodes.items():
                clash = Booking.objects.filter(nodes=node, starts_at__lt=ends, ends_at__gt=starts).first()
                if clash is not None:
                    raise CommandError(
                        f"'{name}' is booked for {clash.team.slug} from {clash.starts_at:%Y-%m-%d %H:%M} to "
                        f"{clash.ends_at:%Y-%m-%d %H:%M} UTC already."
                    )
            booking = Booking.objects.create(team=team, starts_at=starts, ends_at=ends, note=options["note"][:200])
            booking.nodes.set(nodes.values())
        wired().hint_tick()
        self.stdout.write(f"booking {booking.pk}: {', '.join(sorted(nodes))} for {team.slug}")


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"'{text}' is not a time such as 2026-12-04T08:00.") from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
