"""`manage.py cordon NODE`: nothing new starts on a machine; what runs there goes on."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from portal.kernel.errors import BerthError
from scheduling import drains


class Command(BaseCommand):
    help = "Start nothing new on NODE; what runs there goes on. `undrain` takes it back into use."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("node", metavar="NODE")

    def handle(self, *args: object, **options: str) -> None:
        try:
            drains.cordon_node(by=None, name=options["node"])
        except BerthError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Nothing new starts on {options['node']}.")
