"""How much each team is guaranteed, may borrow and must lend. One change at a time, and the whole tree must bear it."""

from collections import defaultdict
from collections.abc import Mapping

from django.db import transaction

from portal.kernel.errors import Rejected
from tenants.models import Quota, Team

WHOLE_MILLI_PERCENT = 100_000
FIELDS = ("guaranteed", "percent_milli", "borrow_limit", "lend_limit", "weight", "user_limit")


class MoreThanThePool(Rejected):
    """The guarantees in '{pool}' would be {total:g} {unit} together, and it has {capacity:g}; give {over:g} less."""

    field = "guaranteed"


class MoreThanTheParent(Rejected):
    """The teams below '{parent}' would have {total:g} {unit} guaranteed in '{pool}', and '{parent}' itself has {own:g};
    give {over:g} less, or raise that of '{parent}' first."""

    field = "guaranteed"


class TeamsInACircle(Rejected):
    """The team '{team}' lies below itself in the tree of teams; correct its parent first."""


@transaction.atomic
def set_quota(
    *, team: Team, pool: str, capacity: int, unit: tuple[int, str], changes: Mapping[str, int | None]
) -> Quota:
    """Change what `team` has in `pool`; what `changes` does not name stays, and is at its default in a new quota.

    capacity: units that the pool has. unit: how many units make one thing that people count, and its name ("GPUs").
    changes: by the names in FIELDS; None as a limit means no limit. Raises MoreThanThePool, MoreThanTheParent.
    """
    # Locked as a whole, because two changes that each fit alone may not fit together.
    tree = {row.pk: row for row in Team.objects.select_for_update().order_by("pk")}
    quotas = {row.team_id: row for row in Quota.objects.filter(pool=pool)}
    quota = quotas.setdefault(team.pk, Quota(team=team, pool=pool))
    for name in changes:
        if name not in FIELDS:
            raise ValueError(f"a quota has no {name}")
        setattr(quota, name, changes[name])
    _check(tree, quotas, pool=pool, capacity=capacity, unit=unit)
    quota.save()
    return quota


def _check(
    tree: Mapping[int, Team], quotas: Mapping[int, Quota], *, pool: str, capacity: int, unit: tuple[int, str]
) -> None:
    children: dict[int | None, list[int]] = defaultdict(list)
    for team in tree.values():
        children[team.parent_id].append(team.pk)
        _refuse_a_circle(tree, team)
    size, name = unit

    def own(team: int) -> int:
        quota = quotas.get(team)
        return quota.guaranteed + quota.percent_milli * capacity // WHOLE_MILLI_PERCENT if quota else 0

    def together(parent: int | None) -> int:
        """A team that states nothing has what those below it have together."""
        return sum(own(child) or together(child) for child in children[parent])

    for team in tree.values():
        total, has = together(team.pk), own(team.pk)
        if has and total > has:
            raise MoreThanTheParent(
                parent=team.slug, pool=pool, unit=name, total=total / size, own=has / size, over=(total - has) / size
            )
    if (total := together(None)) > capacity:
        raise MoreThanThePool(
            pool=pool, unit=name, total=total / size, capacity=capacity / size, over=(total - capacity) / size
        )


def _refuse_a_circle(tree: Mapping[int, Team], team: Team) -> None:
    seen, at = {team.pk}, team.parent_id
    while at is not None:
        if at in seen:
            raise TeamsInACircle(team=tree[at].slug)
        seen.add(at)
        at = tree[at].parent_id
