"""A full disk or a database that is away is told from a bug."""

import errno
import sqlite3

import psycopg
import pytest
from django.db import IntegrityError, OperationalError, ProgrammingError

from portal.outages import AWAY, BUSY, FULL, SICK, outage


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("database or disk is full", FULL),
        ("disk I/O error", SICK),
        ("unable to open database file", SICK),
        ("attempt to write a readonly database", SICK),
        ("database is locked", BUSY),
        ("no such table: workspaces_workspace", ""),
    ],
)
def test_what_sqlite_says_is_an_outage_or_a_bug(said: str, sentence: str) -> None:
    assert outage(caused(OperationalError(said), sqlite3.OperationalError(said))) == sentence


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        (psycopg.OperationalError("connection refused"), AWAY),
        (psycopg.errors.AdminShutdown("terminating connection"), AWAY),
        (psycopg.errors.TooManyConnections("sorry, too many clients already"), AWAY),
        (psycopg.errors.DiskFull("could not extend file"), FULL),
    ],
)
def test_what_postgresql_says_is_an_outage(cause: Exception, sentence: str) -> None:
    assert outage(caused(OperationalError(str(cause)), cause)) == sentence


def test_bugs_stay_bugs() -> None:
    assert outage(None) == outage(ValueError("x")) == outage(OSError(errno.EPERM, "x")) == ""
    assert outage(caused(ProgrammingError("x"), psycopg.errors.UndefinedTable("x"))) == ""
    assert outage(caused(IntegrityError("x"), psycopg.errors.UniqueViolation("x"))) == ""
    assert outage(OSError(errno.ENOSPC, "No space left on device")) == FULL
