"""What has to be there before any process of the portal serves: tables, static files, the first person."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.management import call_command
from django.db import connection

from portal import compose
from portal.kernel import clock
from tenants.services import first_admin

# Of the libraries' own files only those that a page names: the rest would cost 10 s of compression at the first start.
UNUSED_STATIC = ["rest_framework", "ext", "htmx-2*", "htmax*"]


def prepare(place: compose.Place, *, say: Callable[[str], None]) -> None:
    """Database, static files, the first person. Quick when nothing is new. say: where the first password is told."""
    if connection.vendor == "sqlite":
        # Private from its first byte, for the workspaces' accounts can enter the folder; its journals take its mode.
        # One that another command made first, or that came back from a backup, becomes so here.
        database = Path(connection.settings_dict["NAME"])
        database.touch(mode=0o600)
        for file in database.parent.glob(f"{database.name}*"):
            file.chmod(0o600)
    call_command("migrate", verbosity=0, interactive=False)
    _collect_static_files()
    password = first_admin(place.admin_password, now=clock.now())
    if password and not place.admin_password:
        say('First start. Sign in as "admin"; the password is shown this once:')
        say(f"    password: {password}")
    compose.begin()


def _collect_static_files() -> None:
    """collectstatic, unless the files are those of the last time."""
    digest = hashlib.sha256()
    for finder in get_finders():
        for path, storage in finder.list(UNUSED_STATIC):
            stat = os.stat(storage.path(path))
            digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    stamp = Path(staticfiles_storage.path("")) / ".made-from"
    if not stamp.exists() or stamp.read_text() != digest.hexdigest():
        stamp.unlink(missing_ok=True)
        call_command("collectstatic", verbosity=0, interactive=False, clear=True, ignore_patterns=UNUSED_STATIC)
        stamp.write_text(digest.hexdigest())
