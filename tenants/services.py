"""Changes to people and teams."""

import secrets
from datetime import datetime

from django.db import transaction

from tenants.models import Member, Role, Team, User

ADMIN = "admin"
DEFAULT_TEAM = "default"


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
