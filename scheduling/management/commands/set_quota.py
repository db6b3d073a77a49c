"""`manage.py set_quota TEAM POOL --guaranteed 8 --borrow 4`: what a team has in a pool, until pages do it."""

from argparse import ArgumentParser
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.kernel.errors import Rejected
from scheduling.selectors import pool_units
from scheduling.wiring import wired
from tenants.management.asking import started_once, team_named
from tenants.models import Quota
from tenants.quotas import set_quota

NO_LIMIT = "none"


class Command(BaseCommand):
    help = (
        "Set what TEAM has in POOL. Amounts are GPUs, cores in a pool without GPUs; fractions are allowed. What is not "
        "named stays as it is. 'none' takes a limit away."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("team", metavar="TEAM", help="the team's short name")
        parser.add_argument("pool", metavar="POOL")
        parser.add_argument("--guaranteed", metavar="N", help="what it always gets")
        parser.add_argument("--percent", metavar="P", help="the same in percent of what the pool has; adds up")
        parser.add_argument("--borrow", metavar="N", help="the most beyond its guarantee, or none")
        parser.add_argument("--lend", metavar="N", help="the most of its guarantee that others may use, or none")
        parser.add_argument("--user", metavar="N", help="the most that one member may use, or none")
        parser.add_argument("--weight", type=int, metavar="W", help="its part of what is shared; 0: what nobody wants")

    def handle(self, *args: object, **options: Any) -> None:
        started_once()
        team = team_named(options["team"])
        size = pool_units(options["pool"])
        if size is None:
            raise CommandError(f"There is no pool '{options['pool']}'; pools appear with their first machine.")
        capacity, unit = size
        changes = _changes(options, unit)
        if not changes:
            raise CommandError("Name at least one of --guaranteed, --percent, --borrow, --lend, --user, --weight.")
        try:
            quota = set_quota(team=team, pool=options["pool"], capacity=capacity, unit=unit, changes=changes)
        except Rejected as refusal:
            raise CommandError(refusal.sentence) from refusal
        wired().hint_tick()
        self.stdout.write(_told(quota, capacity, unit))


def _changes(options: dict[str, Any], unit: tuple[int, str]) -> dict[str, int | None]:
    changes: dict[str, int | None] = {}
    for name, column, each, may_be_none in (
        ("guaranteed", "guaranteed", unit[0], False),
        ("percent", "percent_milli", 1000, False),
        ("borrow", "borrow_limit", unit[0], True),
        ("lend", "lend_limit", unit[0], True),
        ("user", "user_limit", unit[0], True),
    ):
        text = options[name]
        if text is not None:
            changes[column] = None if may_be_none and text == NO_LIMIT else _amount(f"--{name}", text, each)
    if "percent_milli" in changes and (changes["percent_milli"] or 0) > 100_000:
        raise CommandError("--percent is at most 100.")
    if options["weight"] is not None:
        if options["weight"] < 0:
            raise CommandError("--weight is 0 or more.")
        changes["weight"] = options["weight"]
    return changes


def _amount(option: str, text: str, each: int) -> int:
    """Whole units; a fraction of a GPU that is none is refused rather than rounded."""
    try:
        units = Decimal(text) * each
    except InvalidOperation:
        units = Decimal(-1)
    if not units.is_finite() or units < 0 or units != units.to_integral_value():
        raise CommandError(f"{option} is a number from 0 on with at most three decimals, not '{text}'.")
    return int(units)


def _told(quota: Quota, capacity: int, unit: tuple[int, str]) -> str:
    size, name = unit

    def limit(units: int | None) -> str:
        return "no limit" if units is None else f"{units / size:g}"

    return (
        f"{quota.team.slug} in {quota.pool} ({capacity / size:g} {name}): guaranteed {quota.guaranteed / size:g} + "
        f"{quota.percent_milli / 1000:g} %, borrows {limit(quota.borrow_limit)}, lends {limit(quota.lend_limit)}, one "
        f"member {limit(quota.user_limit)}, weight {quota.weight}"
    )
