"""Changes to people and teams."""

import re
import secrets
from datetime import datetime

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from portal.kernel.errors import Conflict, Rejected
from tenants.models import Member, Role, Team, User

ADMIN = "admin"
DEFAULT_TEAM = "default"
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@_+-]{0,63}")


class BadTeamName(Rejected):
    """'{name}' cannot name a team: use 1 to 40 small letters, digits and hyphens, no hyphen at either end."""

    field = "name"


class BadPersonName(Rejected):
    """'{name}' cannot be an account's name: use up to 64 letters, digits and . @ _ + - after a letter or digit."""

    field = "username"


class TeamExists(Conflict):
    """There is a team '{name}' already; choose another name."""

    field = "name"


class PersonExists(Conflict):
    """There is an account '{name}' already; choose another name."""

    field = "username"


class WeakPassword(Rejected):
    """This password is too easy to guess: {why}"""

    field = "password"


@transaction.atomic
def first_admin(password: str, *, now: datetime) -> str | None:
    """Make the first account, an admin who owns the team `default`, unless there is any account already.

    An empty `password` means: make one up. Answers the password of the account made, None when there was nothing to do.
    """
    if User.objects.exists():
        return None
    chosen = password or secrets.token_urlsafe(12)
    user = User(username=ADMIN, is_staff=True, is_superuser=True, date_joined=now)
    user.set_password(chosen)
    user.save()
    team, _ = Team.objects.get_or_create(slug=DEFAULT_TEAM, defaults={"name": "Default team"})
    Member.objects.create(team=team, user=user, role=Role.OWNER)
    return chosen


@transaction.atomic
def create_team(*, name: str, parent: Team | None = None, title: str = "") -> Team:
    """A new team below `parent`, or at the top. `title`: as people read it, by default the name itself."""
    if not _SLUG.fullmatch(name):
        raise BadTeamName(name=name[:60])
    team, made = Team.objects.get_or_create(slug=name, defaults={"name": title[:80] or name, "parent": parent})
    if not made:
        raise TeamExists(name=name)
    return team


@transaction.atomic
def create_person(*, name: str, team: Team, role: Role = Role.MEMBER, password: str = "", now: datetime) -> str:
    """A new account that belongs to `team`. An empty `password` means: make one up. Answers the password."""
    if not _PERSON.fullmatch(name):
        raise BadPersonName(name=name[:80])
    if User.objects.filter(username__iexact=name).exists():
        raise PersonExists(name=name)
    user = User(username=name, date_joined=now)
    if password:
        try:
            validate_password(password, user)
        except ValidationError as refusal:
            raise WeakPassword(why=" ".join(refusal.messages)) from None
    chosen = password or secrets.token_urlsafe(12)
    user.set_password(chosen)
    user.save()
    Member.objects.create(team=team, user=user, role=role)
    return chosen


@transaction.atomic
def add_member(*, user: User, team: Team, role: Role = Role.MEMBER) -> Member:
    """Put a person into a team, or give him another role in it."""
    member, _ = Member.objects.update_or_create(user=user, team=team, defaults={"role": role})
    return member
