"""`manage.py up`: the whole portal in one foreground process."""

import os
import signal
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from portal import up


class Command(BaseCommand):
    help = "Start web, gateway, worker, beat and this machine's node in one foreground process; Ctrl-C stops them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--keep", action="store_true", help="leave Docker workspaces running; the next start adopts them"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # instead of manage.py's
            code = up.run(keep=options["keep"])
        except KeyboardInterrupt:
            code = 130
            print("Stopped before it was ready.", flush=True)
        sys.stdout.flush()
        sys.stderr.flush()
        # Everything of ours has ended. Threads that sit in a container engine's or a driver's call must not hold us up.
        os._exit(code)
