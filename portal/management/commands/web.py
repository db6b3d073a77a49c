"""`manage.py web`: one web process of a cluster."""

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand

from portal.serving import serve_web


class Command(BaseCommand):
    help = "Serve pages, the API and live news as one process of a cluster; any number may run."

    def handle(self, *args: Any, **options: Any) -> None:
        code = serve_web()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # threads that sit in a database's call must not hold us up
