"""Guarantees for tests, in GPUs."""

from scheduling.core.units import GPU_UNITS
from tenants.models import Quota, Team


def guarantee(team: Team, gpus: float = 0, *, pool: str = "gpu", **more: object) -> Quota:
    """`more`: other columns, in units; the check of the whole tree is left to the tests that are about it."""
    quota, _ = Quota.objects.update_or_create(
        team=team, pool=pool, defaults={"guaranteed": int(gpus * GPU_UNITS), **more}
    )
    return quota
