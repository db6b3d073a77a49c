"""`manage.py create_team NAME`: a team, until there is a page for it."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from portal.kernel.errors import BerthError
from tenants.management.asking import started_once, team_named
from tenants.services import create_team


class Command(BaseCommand):
    help = "Make a team. Teams form a tree: departments, teams, projects."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help="small letters, digits and hyphens")
        parser.add_argument("--parent", metavar="TEAM", help="the team that it belongs to (default: none)")
        parser.add_argument("--title", default="", help="as people read it (default: the name)")

    def handle(self, *args: object, **options: str) -> None:
        started_once()
        parent = team_named(options["parent"]) if options["parent"] else None
        try:
            team = create_team(name=options["name"], parent=parent, title=options["title"])
        except BerthError as refusal:
            raise CommandError(refusal.sentence) from None
        self.stdout.write(f"Team {team.slug} is there{f', below {parent.slug}' if parent else ''}.")
