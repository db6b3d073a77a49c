"""`manage.py set_team TEAM --hours "mon-fri 20:00-06:00" --min-runtime 10m`: when and how long, until pages do it."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.kernel.env import BadSetting, env_duration
from portal.kernel.errors import Rejected
from scheduling.core.cluster import Window
from scheduling.core.windows import NoWindow, in_words, window_from
from scheduling.shaping import teams
from scheduling.site_rules import set_hours, set_min_runtime
from scheduling.wiring import wired
from tenants.management.asking import started_once, team_named

ALWAYS, NONE = "always", "none"


class Command(BaseCommand):
    help = (
        "Say when jobs of TEAM and of the teams below it may start, and for how long its work is left alone after each "
        "start. What is not named stays as it is."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("team", metavar="TEAM", help="the team's short name")
        parser.add_argument(
            "--hours", nargs="+", metavar="WINDOW", help="'mon-fri 20:00-06:00', 'sat,sun' … in UTC, or always"
        )
        parser.add_argument("--min-runtime", metavar="TIME", help="such as 10m or 2h; none: the policy's")

    def handle(self, *args: object, **options: Any) -> None:
        started_once()
        team = team_named(options["team"])
        if options["hours"] is None and options["min_runtime"] is None:
            raise CommandError("Name at least one of --hours, --min-runtime.")
        windows = None if options["hours"] is None else _windows(options["hours"])
        min_runtime = None if options["min_runtime"] is None else _duration(options["min_runtime"])
        try:
            if min_runtime is not None:
                set_min_runtime(team=team, min_runtime=min_runtime)
            if windows is not None:
                set_hours(team=team, windows=windows)
        except Rejected as refusal:
            raise CommandError(refusal.sentence) from refusal
        told = next(known for known in teams() if known.id == team.pk)
        alone = told.min_runtime_s or wired().policy.min_runtime_s
        hours = ", ".join(in_words(window) for window in told.windows) or "at any time"
        self.stdout.write(f"{team.slug}: starts {hours}; left alone for {alone} s after a start")


def _windows(texts: list[str]) -> list[Window]:
    if texts == [ALWAYS]:
        return []
    try:
        return list(dict.fromkeys(window_from(text) for text in texts))
    except NoWindow as refusal:
        raise CommandError(f"--hours: {refusal}.") from refusal


def _duration(text: str) -> timedelta:
    if text in (NONE, "0"):
        return timedelta()
    try:
        return env_duration("--min-runtime", timedelta(), environ={"--min-runtime": text})
    except BadSetting as refusal:
        raise CommandError(str(refusal)) from refusal
