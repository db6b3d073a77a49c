"""`manage.py create_token USER`: an API token for a program."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from portal.kernel import clock
from tenants.management.asking import started_once
from tenants.models import User
from tenants.tokens import create_token


class Command(BaseCommand):
    help = "Print a new API token of USER. It is shown only this once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", metavar="USER")
        parser.add_argument("--name", default="command line", help="what the token is for (default: %(default)s)")

    def handle(self, *args: object, **options: str) -> None:
        started_once()
        user = User.objects.filter(username=options["user"], is_active=True).first()
        if user is None:
            known = ", ".join(User.objects.filter(is_active=True).values_list("username", flat=True)[:10])
            raise CommandError(f"There is no active account '{options['user']}'. Accounts: {known or 'none yet'}.")
        _, token = create_token(user=user, name=options["name"][:80], now=clock.now())
        self.stdout.write(token)
