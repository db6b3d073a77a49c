"""`manage.py set_pool POOL --gpus 8 --cpus 96 --memory-gib 1024`: by which node CPU and memory are charged."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.kernel import clock
from portal.kernel.errors import Rejected
from scheduling.models import Pool
from scheduling.shaping import reference_of
from scheduling.site_rules import set_reference
from tenants.management.asking import started_once

#: far more than any machine has, and less than what the columns hold
MOST = 1_000_000


class Command(BaseCommand):
    help = (
        "Say what a usual node of POOL has: a job is charged the largest of its GPUs and what its CPU and memory would "
        "be in GPUs of such a node. In a pool without GPUs memory is charged as the cores that come with it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("pool", metavar="POOL")
        parser.add_argument("--gpus", type=int, metavar="N")
        parser.add_argument("--cpus", type=float, metavar="N", help="CPU cores beside these GPUs")
        parser.add_argument("--memory-gib", type=float, metavar="N")
        parser.add_argument("--no-reference", action="store_true", help="CPU and memory cost nothing extra")

    def handle(self, *args: object, **options: Any) -> None:
        started_once()
        pool = Pool.objects.filter(name=options["pool"]).first()
        if pool is None:
            raise CommandError(f"There is no pool '{options['pool']}'; pools appear with their first machine.")
        given = {name: options[name] for name in ("gpus", "cpus", "memory_gib") if options[name] is not None}
        if bool(given) == options["no_reference"]:
            raise CommandError("Name the node by --gpus, --cpus and --memory-gib, or say --no-reference.")
        for name, number in given.items():
            if not 0 <= number <= MOST:  # nor what is no number
                raise CommandError(f"--{name.replace('_', '-')} is a number from 0 to {MOST:,}.")
        reference = (given.get("gpus", 0), int(given.get("cpus", 0) * 1000), int(given.get("memory_gib", 0) * 1024))
        try:
            set_reference(pool=pool, reference=reference, now=clock.now())
        except Rejected as refusal:
            raise CommandError(refusal.sentence) from refusal
        pool.refresh_from_db()
        gpus, cpu, memory = reference_of(pool)
        node = f"{gpus} GPUs, {cpu / 1000:g} cores, {memory / 1024:g} GiB" if cpu or memory else "none"
        self.stdout.write(f"{pool.name}: reference node {node}")
