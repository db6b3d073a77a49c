"""`manage.py undrain NODE`: a machine that was cordoned or drained takes work again."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from portal.kernel.errors import BerthError
from scheduling import drains


class Command(BaseCommand):
    help = "Take NODE back into use after `cordon` or `drain`."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("node", metavar="NODE")

    def handle(self, *args: object, **options: str) -> None:
        try:
            drains.return_node(by=None, name=options["node"])
        except BerthError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{options['node']} takes work again.")
