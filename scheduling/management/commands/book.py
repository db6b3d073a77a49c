"""`manage.py book TEAM NODE… --from … --to …`: these machines are the team's for that time, until pages do it."""

from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from portal.kernel import clock
from scheduling.models import Allocation, Booking, Job, Node
from scheduling.wiring import wired
from tenants.management.asking import started_once, team_named
from tenants.models import Team


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
        for line in _overlaps(booking, clock.now()):
            self.stdout.write(line)


def _overlaps(booking: Booking, now: datetime) -> Iterator[str]:
    """Others' work on these machines that may still be there when the booking starts, by time limits, the latest
    first."""
    rows = Allocation.objects.filter(
        released_at__isnull=True, node__in=booking.nodes.all(), lead=True
    ).select_related("job__team", "node")  # fmt: skip
    ours = _at_or_below(booking.team_id)
    found = [
        (_latest_end(row.job, now), row) for row in rows
        if row.job.team_id not in ours and _latest_end(row.job, now) > booking.starts_at
    ]  # fmt: skip
    for ends, row in sorted(found, key=lambda entry: (-entry[0].timestamp(), entry[1].job_id, entry[1].part)):
        yield (
            f"overlap  job {row.job_id} of {row.job.team.slug} on {row.node.name} may run until {ends:%Y-%m-%d %H:%M} "
            f"UTC"
        )
    if found:
        yield (
            "A booking evicts nobody: what runs goes on, at most until its time limit, and the team gets its GPUs as "
            "they are left. Cancel or drain what must be gone by then."
        )


def _at_or_below(team: int) -> set[int]:
    children: dict[int | None, list[int]] = defaultdict(list)
    for child, parent in Team.objects.values_list("pk", "parent_id"):
        children[parent].append(child)
    found, rest = {team}, [team]
    while rest:
        below = children[rest.pop()]
        found.update(below)
        rest += below
    return found


def _latest_end(job: Job, now: datetime) -> datetime:
    """Time limits count RUNNING time: what does not run yet may take all of it from now on."""
    return (job.running_at or now) + job.limit


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"'{text}' is not a time such as 2026-12-04T08:00.") from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
