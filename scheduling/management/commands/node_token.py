"""`manage.py node_token NAME`: a one-time token with which a machine joins as a node."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.kernel import clock
from portal.kernel.env import BadSetting, env_duration
from portal.kernel.errors import BerthError
from scheduling import enrolment


class Command(BaseCommand):
    help = "Print a token with which one machine joins as the node NAME: berth-agent --join URL TOKEN. It works once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--pool", default="", help="the pool it belongs to (default: gpu or cpu, by what it has)")
        parser.add_argument(
            "--simulated",
            type=int,
            default=0,
            metavar="N",
            help="for N simulated nodes, NAME-1 to NAME-N, in one agent",
        )
        parser.add_argument("--lifetime", default="1h", help="how long the token can be used (default: %(default)s)")
        parser.add_argument(
            "--revoke", action="store_true", help="print none; refuse the node's present key from now on"
        )

    def handle(self, *args: object, **options: Any) -> None:
        name = options["name"]
        if options["revoke"]:
            if not enrolment.revoke_key(name=name):
                raise CommandError(f"There is no enrolled node '{name}'.")
            self.stdout.write(f"The key of {name} is refused from now on.")
            return
        if not 0 <= options["simulated"] <= enrolment.MOST_SIMULATED:
            raise CommandError(f"--simulated must be from 1 to {enrolment.MOST_SIMULATED}.")
        try:
            lifetime = env_duration("--lifetime", enrolment.TOKEN_LIFETIME, environ={"--lifetime": options["lifetime"]})
            token = enrolment.create_join_token(
                name=name, pool=options["pool"], simulated=options["simulated"], now=clock.now(), lifetime=lifetime
            )
        except (BerthError, BadSetting) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(token)
