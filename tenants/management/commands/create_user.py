"""`manage.py create_user NAME --team TEAM`: an account, until there is a page for it."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from portal.kernel import clock
from portal.kernel.errors import BerthError
from tenants.management.asking import started_once, team_named
from tenants.models import Role, User
from tenants.services import add_member, create_person


class Command(BaseCommand):
    help = (
        "Make an account that belongs to TEAM and print its password, this once; or put an account into one more team."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--team", required=True, metavar="TEAM")
        parser.add_argument("--role", choices=Role.values, default=Role.MEMBER, help="default: %(default)s")

    def handle(self, *args: object, **options: str) -> None:
        started_once()
        team, role = team_named(options["team"]), Role(options["role"])
        there = User.objects.filter(username=options["name"]).first()
        if there is not None:
            add_member(user=there, team=team, role=role)
            self.stdout.write(f"{there.username} is {role} of {team.slug}; the password stays as it was.")
            return
        try:
            password = create_person(name=options["name"], team=team, role=role, now=clock.now())
        except BerthError as refusal:
            raise CommandError(refusal.sentence) from None
        self.stdout.write(f"{options['name']} is {role} of {team.slug}. Its password, shown this once:\n    {password}")
