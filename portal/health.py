"""Which parts this process needs to be of use, and which of them are not well: the answer behind /healthz."""

import os
from collections.abc import Callable
from pathlib import Path

from django.db import DatabaseError, connection

from portal.outages import outage

LITTLE_SPACE = 32 * 2**20  # bytes; with less left, SQLite and its journal soon cannot write

#: answers "" when the part is well, else one sentence
Check = Callable[[], str]

_checks: dict[str, Check] = {}


def expect(part: str, check: Check) -> None:
    """From now on this process is ready only while `check` finds nothing wrong with `part`."""
    _checks[part] = check


def troubles() -> dict[str, str]:
    """Part -> what is wrong with it; empty when everything is ready. One small query."""
    found = {part: sentence for part, check in _checks.items() if (sentence := check())}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        found["database"] = outage(error) or f"The database does not answer: {error}"
    return found


def space_in(folder: Path) -> Check:
    """The check that the disk of `folder` has some room left."""

    def check() -> str:
        try:
            disk = os.statvfs(folder)
        except OSError as error:
            return f"The data folder {folder} cannot be reached: {error.strerror}."
        free = disk.f_bavail * disk.f_frsize
        if free >= LITTLE_SPACE:
            return ""
        return f"The disk of {folder} has only {free // 2**20} MiB free; free at least {LITTLE_SPACE // 2**20} MiB."

    return check
