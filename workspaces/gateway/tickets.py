"""Tickets: how a person signed in at the portal gets a cookie on a workspace's own host.

Minted by the portal, shown once to the gateway within 30 s. What opens things is stored as a hash only.
"""

import secrets
from datetime import datetime, timedelta

from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Exists, OuterRef

from tenants.models import User
from tenants.permissions import may_open_workspace
from tenants.tokens import digest
from workspaces.gateway.sessions import signed_in
from workspaces.models import GatewayGrant, Ticket, Workspace

LIFETIME = timedelta(seconds=30)
#: used and expired tickets are kept for so long, for whoever wonders what happened
_KEEP = timedelta(hours=1)


def mint(*, workspace: Workspace, user: User, session_key: str, now: datetime) -> str:
    """A ticket for one entry into `workspace` by the browser of this portal session. The caller checks the right."""
    secret = secrets.token_urlsafe(32)
    Ticket.objects.create(
        sha256=digest(secret), workspace=workspace, user=user, session_key=session_key, expires_at=now + LIFETIME
    )
    return secret


def redeem(*, ticket: str, workspace_id: str, now: datetime) -> tuple[str, int] | None:
    """Exchange a ticket for the value of a new cookie and the id of its person, or None if it is not good (any more).

    The guarded update has one winner whoever else tries at the same moment; a ticket for another workspace is left
    alone. What could have changed since it was minted is asked again: the session, the person, the right to enter.
    """
    with transaction.atomic():
        won = Ticket.objects.filter(
            pk=digest(ticket), workspace_id=workspace_id, used_at__isnull=True, expires_at__gt=now
        ).update(used_at=now)
        if won != 1:
            return None
        row = Ticket.objects.select_related("user", "workspace").get(pk=digest(ticket))
        place = row.workspace
        if place.deleted_at is not None:
            return None
        if not may_open_workspace(row.user, owner_id=place.owner_id, team_id=place.team_id):
            return None
        if not signed_in([(row.session_key, row.user)], now=now):
            return None
        cookie = secrets.token_urlsafe(32)
        GatewayGrant.objects.create(
            sha256=digest(cookie), workspace=row.workspace, user=row.user, session_key=row.session_key, created_at=now
        )
    _forget(now)
    return cookie, row.user_id


def _forget(now: datetime) -> None:
    """Drop what opens nothing any more."""
    Ticket.objects.filter(expires_at__lt=now - _KEEP).delete()
    alive = Session.objects.filter(session_key=OuterRef("session_key"), expire_date__gt=now)
    GatewayGrant.objects.filter(~Exists(alive)).delete()
