"""API tokens: made once, shown once, stored as a hash."""

import hashlib
import secrets
from datetime import datetime, timedelta

from django.db.models import Q

from tenants.models import ApiToken, User

PREFIX = "berth_"
#: last use is written at most this often, so that a busy client does not write a row per request
_NOTE_EVERY = timedelta(minutes=1)


def digest(token: str) -> str:
    """SHA-256 in hex. Tokens are 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def create_token(*, user: User, name: str, now: datetime, lifetime: timedelta | None = None) -> tuple[ApiToken, str]:
    """A new token of `user`: the row, and the secret that is never shown again."""
    token = PREFIX + secrets.token_urlsafe(32)
    row = ApiToken.objects.create(
        user=user,
        name=name,
        prefix=token[: len(PREFIX) + 4],
        sha256=digest(token),
        created_at=now,
        expires_at=now + lifetime if lifetime else None,
    )
    return row, token


def user_of(token: str, *, now: datetime) -> User | None:
    """Whose token it is, if it is good now."""
    good = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    row = (
        ApiToken.objects.select_related("user")
        .filter(good, sha256=digest(token), revoked_at__isnull=True, user__is_active=True)
        .first()
    )
    if row is None:
        return None
    if row.last_used_at is None or now - row.last_used_at > _NOTE_EVERY:
        ApiToken.objects.filter(pk=row.pk).update(last_used_at=now)
    return row.user
