"""What commands about people and teams ask first, each with the sentence of its refusal."""

from django.core.management.base import CommandError
from django.db import connection

from tenants.models import Team, User


def started_once() -> None:
    if User._meta.db_table not in connection.introspection.table_names():
        raise CommandError("There are no accounts yet: start the portal once with `make up`.")


def team_named(name: str) -> Team:
    team = Team.objects.filter(slug=name).first()
    if team is None:
        known = ", ".join(Team.objects.values_list("slug", flat=True)[:20])
        raise CommandError(f"There is no team '{name}'. Teams: {known or 'none yet'}.")
    return team
