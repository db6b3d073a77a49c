"""What differs between PostgreSQL and SQLite, and nothing else: who may do a thing alone, and a steady view to read."""

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from django.db import connection, transaction

_threads: dict[str, threading.Lock] = {}
_guard = threading.Lock()


def _lock_key(name: str) -> int:
    """A signed 64-bit number, as pg_advisory_lock takes it."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


@contextlib.contextmanager
def one_at_a_time(name: str) -> Iterator[bool]:
    """Yields True to the one caller in the whole installation, False to everybody else, at once.

    PostgreSQL: a session-level advisory lock, gone with the connection if the holder dies. SQLite: a lock between the
    threads of this process and one on a file beside the database, gone with the process.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [_lock_key(name)])
            mine = bool(cursor.fetchone()[0])
        try:
            yield mine
        finally:
            if mine:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_unlock(%s)", [_lock_key(name)])
        return
    with _guard:
        lock = _threads.setdefault(name, threading.Lock())
    if not lock.acquire(blocking=False):
        yield False
        return
    try:
        with _file_lock(name) as mine:
            yield mine
    finally:
        lock.release()


@contextlib.contextmanager
def _file_lock(name: str) -> Iterator[bool]:
    database = str(connection.settings_dict["NAME"])
    if "memory" in database:  # a test database lives in this process alone
        yield True
        return
    # Private: whoever can open the file, a workspace's account for instance, could hold the lock for ever.
    with open(Path(database).with_suffix(f".{name}.lock"), "a", opener=_private) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True  # closing the file lets go of the lock


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def steady_view() -> Iterator[None]:
    """A transaction in which every query sees the same moment. Read only; keep it short."""
    with transaction.atomic():
        if connection.vendor == "postgresql" and len(connection.savepoint_ids) == 0:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield
