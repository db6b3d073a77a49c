"""Which parts this process needs to be of use, and which of them are not well: the answer behind /healthz."""

from collections.abc import Callable

from django.db import DatabaseError, connection

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
        found["database"] = f"The database does not answer: {error}"
    return found
