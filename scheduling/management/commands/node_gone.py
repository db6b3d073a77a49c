"""`manage.py node_gone NAME`: a person confirms that a lost machine is off."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from portal.kernel import clock
from portal.kernel.errors import BerthError
from scheduling import node_life


class Command(BaseCommand):
    help = "Confirm that the lost node NAME is switched off, so that what it held on shared volumes may run elsewhere."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME")

    def handle(self, *args: object, **options: str) -> None:
        try:
            freed = node_life.confirm_switched_off(name=options["name"], now=clock.now())
        except BerthError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{freed} containers of {options['name']} count as ended.")
