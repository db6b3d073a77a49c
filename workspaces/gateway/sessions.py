"""Is a person still signed in at the portal? Asked of stored sessions, since the gateway never sees their cookies."""

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.utils.crypto import constant_time_compare

from tenants.models import User


def signed_in(claims: Iterable[tuple[str, User]], *, now: datetime) -> set[str]:
    """Those session keys of (session key, person) in which that person is signed in now. One query.

    A session ends by log-out, by expiry, by deactivation of its person, and by a change of the password.
    """
    asked = list(claims)
    stored = dict(
        Session.objects.filter(session_key__in={key for key, _ in asked}, expire_date__gt=now).values_list(
            "session_key", "session_data"
        )
    )
    return {key for key, person in asked if person.is_active and key in stored and _is_of(stored[key], person)}


def _is_of(session_data: str, person: User) -> bool:
    user_id, backend, password_hash = _login(session_data)
    if not backend or user_id != str(person.pk):
        return False
    good = [person.get_session_auth_hash(), *person.get_session_auth_fallback_hash()]
    return any(constant_time_compare(password_hash, one) for one in good)


@lru_cache(maxsize=4096)
def _login(session_data: str) -> tuple[str, str, str]:
    """Who signed in in this session, how, and a hash of the password at that time. Costly, and asked every few
    seconds about data that rarely changes."""
    data = SessionStore().decode(session_data)
    return str(data.get(SESSION_KEY, "")), data.get(BACKEND_SESSION_KEY, ""), data.get(HASH_SESSION_KEY, "")
