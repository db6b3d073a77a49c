"""What differs between PostgreSQL and SQLite, and nothing else: who may do a thing alone, for a moment or for long, a
bell for whoever leads, and a steady view to read.
"""

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from django.db import connection, transaction

_threads: dict[str, threading.Lock] = {}
_bells: dict[str, set[threading.Event]] = {}
_guard = threading.Lock()
#: a session that holds a lock is asked whether its machine still is there: after 2 s of silence, and then twice
_TRY_LOCK = """SELECT pg_try_advisory_lock(%s), set_config('tcp_keepalives_idle', '2', false),
    set_config('tcp_keepalives_interval', '1', false), set_config('tcp_keepalives_count', '2', false),
    set_config('tcp_user_timeout', '4000', false)"""


def _lock_key(name: str) -> int:
    """A signed 64-bit number, as pg_advisory_lock takes it."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


@contextlib.contextmanager
def one_at_a_time(name: str) -> Iterator[bool]:
    """Yields True to the one caller in the whole installation, False to everybody else, at once.

    PostgreSQL: a session-level advisory lock, gone with the connection if the holder dies, or if its machine does (the
    server is told to ask within seconds; its default is two hours). SQLite: a lock between the threads of this process
    and one on a file beside the database, gone with the process.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_TRY_LOCK, [_lock_key(name)])
            mine = bool(cursor.fetchone()[0])
        try:
            yield mine
        finally:
            if mine:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_unlock(%s)", [_lock_key(name)])
        return
    lock = _thread_lock(name)
    if not lock.acquire(blocking=False):
        yield False
        return
    try:
        with _file_lock(name) as mine:
            yield mine
    finally:
        lock.release()


@contextlib.contextmanager
def one_after_another(name: str) -> Iterator[None]:
    """Everybody's turn comes, anywhere in the installation; whoever is not first waits. The locks are those of
    `one_at_a_time`. Not inside a transaction: what the one before has written would not be seen, and on SQLite he could
    not write it."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [_lock_key(name)])
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_lock_key(name)])
        return
    with _thread_lock(name), _file_lock(name, waits=True):
        yield


def _thread_lock(name: str) -> threading.Lock:
    with _guard:
        return _threads.setdefault(name, threading.Lock())


@contextlib.contextmanager
def _file_lock(name: str, *, waits: bool = False) -> Iterator[bool]:
    database = str(connection.settings_dict["NAME"])
    if "memory" in database:  # a test database lives in this process alone
        yield True
        return
    # Private: whoever can open the file, a workspace's account for instance, could hold the lock for ever.
    with open(Path(database).with_suffix(f".{name}.lock"), "a", opener=_private) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True  # closing the file lets go of the lock


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Seat(Protocol):
    """A place from which one of many leads, and hears a bell. Used by one thread."""

    def lead(self) -> bool:
        """Do we lead? Takes the lead where nobody has it. It is kept until the seat is left, or we die."""

    def wait(self, seconds: float) -> bool:
        """While we lead: until the bell rings, or so long. True: it rang since the last call, however often."""


@contextlib.contextmanager
def seat(name: str) -> Iterator[Seat]:
    """Sit down; leaving gives up the lead. Errors of the database (DatabaseError) mean that the lead may be lost: leave
    the seat and sit down anew.

    PostgreSQL: a session of its own with an advisory lock and LISTEN. SQLite: the lock of `one_at_a_time`, and a bell
    that is heard in this process only.
    """
    with contextlib.ExitStack() as leaving:
        yield _PostgresSeat(name, leaving) if connection.vendor == "postgresql" else _LocalSeat(name, leaving)


def ring(name: str) -> None:
    """Ring for whoever leads from the seat `name`; many rings that nobody has heard yet are one. Call it after the
    commit of what it is about. Raises DatabaseError."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", [_channel(name)])
        return
    with _guard:
        for bell in _bells.get(name, ()):
            bell.set()


def _channel(name: str) -> str:
    assert name.isidentifier(), f"{name!r} cannot be the name of a channel"
    return f"berth_{name}"


class _PostgresSeat:
    """The session is not one of Django's pool, which would keep its lock when it comes back."""

    def __init__(self, name: str, leaving: contextlib.ExitStack) -> None:
        self._name, self._leads = name, False
        backend: Any = connection  # Django's own stubs do not know what only this database has
        with connection.wrap_database_errors:
            self._session = backend.Database.connect(**backend.get_connection_params(), autocommit=True)
        leaving.callback(self._session.close)

    def lead(self) -> bool:
        if not self._leads:
            with connection.wrap_database_errors:
                row = self._session.execute(_TRY_LOCK, [_lock_key(f"lead {self._name}")]).fetchone()
                self._leads = bool(row[0])
                if self._leads:
                    self._session.execute(f"LISTEN {_channel(self._name)}")
        return self._leads

    def wait(self, seconds: float) -> bool:
        with connection.wrap_database_errors:
            heard = [*self._session.notifies(timeout=seconds, stop_after=1)]
            return bool([*heard, *self._session.notifies(timeout=0)])


class _LocalSeat:
    def __init__(self, name: str, leaving: contextlib.ExitStack) -> None:
        self._name, self._leads, self._bell, self._leaving = name, False, threading.Event(), leaving
        with _guard:
            _bells.setdefault(name, set()).add(self._bell)
        leaving.callback(_bells[name].discard, self._bell)

    def lead(self) -> bool:
        if not self._leads:
            with contextlib.ExitStack() as trying:
                self._leads = trying.enter_context(one_at_a_time(f"lead_{self._name}"))
                if self._leads:
                    self._leaving.enter_context(trying.pop_all())
        return self._leads

    def wait(self, seconds: float) -> bool:
        rung = self._bell.wait(seconds)
        self._bell.clear()
        return rung


@contextlib.contextmanager
def steady_view() -> Iterator[None]:
    """A transaction in which every query sees the same moment. Read only; keep it short."""
    with transaction.atomic():
        if connection.vendor == "postgresql" and len(connection.savepoint_ids) == 0:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield
