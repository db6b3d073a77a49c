"""`manage.py replan FILE`: plan a dumped snapshot again, to the identical plan, and print what it decides."""

from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from scheduling.core.cluster import Cluster, Part
from scheduling.core.decisions import Plan
from scheduling.core.dump import UnreadableDump, load
from scheduling.core.explain import Names, sentence
from scheduling.core.plan import plan


class Command(BaseCommand):
    help = "Plan the snapshot in FILE (made by `manage.py snapshot`) and print the decisions. Changes nothing."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")

    def handle(self, *args: object, **options: Any) -> None:
        try:
            cluster, policy, now = load(options["file"].read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"Cannot read {options['file']}: {error}.") from error
        except UnreadableDump as error:
            raise CommandError(f"{options['file']}: {error}.") from error
        self.stdout.write(f"plan of {_moment(now)}")
        for line in told(cluster, plan(cluster, policy, now)):
            self.stdout.write(line)


def told(cluster: Cluster, outcome: Plan) -> Iterator[str]:
    """One line for each decision, in the order of the plan."""
    names = {node.id: node.name for node in cluster.nodes}
    known = Names(names, {team.id: team.name for team in cluster.teams})

    def where(parts: tuple[Part, ...]) -> str:
        return "; ".join(
            f"{names.get(part.node, part.node)} gpus {','.join(str(piece.gpu) for piece in part.pieces) or '-'}"
            for part in parts
        )

    for stop in outcome.stops:
        yield f"stop    job {stop.job}: {stop.reason}" + (f" for job {stop.beneficiary}" if stop.beneficiary else "")
    for suspend in outcome.suspends:
        yield f"suspend job {suspend.job} for job {suspend.beneficiary}"
    for recut in outcome.recuts:
        yield f"recut   gpu {recut.gpu} on {names.get(recut.node, recut.node)}: {recut.destroy} -> {recut.create}"
    for place in outcome.places:
        yield f"place   job {place.job} on {where(place.parts)}"
    for claim in outcome.claims:
        yield f"claim   job {claim.job} on {where(claim.parts)} until {_moment(claim.expires_at)}"
    for reserve in outcome.reserves:
        yield f"reserve job {reserve.job} on {where(reserve.parts)} from {_moment(reserve.at)}"
    for hold in outcome.holds:
        yield f"hold    job {hold.job}: {hold.code}. {sentence(hold.code, dict(hold.numbers), known)}".rstrip()


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
