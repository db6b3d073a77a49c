"""Which errors are no bug but a database that is away or a full disk: told in one sentence, answered with 503."""

import errno
import sqlite3

from django.db import DatabaseError

AWAY = "The database does not answer now, so nothing was changed; try again in a moment, or tell an admin."
FULL = "The disk that keeps Berth's data is full, so nothing was changed; an admin must free some space on it."
SICK = "Berth's database file cannot be read or written, so nothing was changed; an admin must look at its disk."
BUSY = "The database is busy, so nothing was changed; try again in a moment."

#: what SQLite says -> what we say; all else that it says, such as "no such table", is a bug of ours
SQLITE = {
    "database or disk is full": FULL,
    "disk i/o error": SICK,
    "unable to open database file": SICK,
    "attempt to write a readonly database": SICK,
    "file is not a database": SICK,
    "database disk image is malformed": SICK,
    "database is locked": BUSY,
    "database table is locked": BUSY,
}
#: SQLSTATE classes of PostgreSQL: connection, resources (disk, connections), an operator's shutdown, the system
POSTGRES = ("08", "53", "57", "58")


def outage(error: BaseException | None) -> str:
    """The sentence for whoever asked for something, or "" when the error is a bug and should be seen as one."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FULL
    if not isinstance(error, DatabaseError):
        return ""
    cause = error.__cause__
    text = str(error).lower()
    if cause is None or isinstance(cause, sqlite3.Error):
        return next((sentence for said, sentence in SQLITE.items() if said in text), "")
    state = getattr(cause, "sqlstate", None)
    if state is None:  # no answer at all: refused, cut off, or the pool waited in vain
        return AWAY if type(error).__name__ in ("OperationalError", "InterfaceError") else ""
    return FULL if state == "53100" else AWAY if state.startswith(POSTGRES) else ""
