"""`manage.py snapshot --out FILE`: what the next cycle would look at, as JSON, so that it can be planned again."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.kernel import clock
from scheduling.core.dump import dump
from scheduling.shaping import seconds
from scheduling.snapshot import load_cluster
from scheduling.wiring import wired
from tenants.management.asking import started_once


class Command(BaseCommand):
    help = "Write the present snapshot, the policy and the moment to FILE. `manage.py replan FILE` plans it again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--out", type=Path, required=True, metavar="FILE")

    def handle(self, *args: object, **options: Any) -> None:
        started_once()
        now = clock.now()
        cluster = load_cluster(now)
        try:
            options["out"].write_text(dump(cluster, wired().policy, seconds(now)) + "\n", encoding="utf-8")
        except OSError as error:
            raise CommandError(f"Cannot write {options['out']}: {error.strerror or error}.") from error
        self.stdout.write(
            f"{options['out']}: {len(cluster.nodes)} nodes, {len(cluster.runs)} runs, {len(cluster.asks)} waiting, "
            f"{len(cluster.claims)} claims"
        )
