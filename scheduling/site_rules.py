"""What an administrator says of teams and pools beside quotas: hours, minimum runtimes, reference nodes."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.db import transaction

from portal.kernel.errors import Rejected
from scheduling.core.cluster import Window
from scheduling.core.machines import reference_flaw
from scheduling.core.windows import ever_meet, windows_of
from scheduling.models import Allocation, ClaimedSlot, Gpu, Pool
from scheduling.records.usage import Charges, settle
from scheduling.shaping import parts_of, teams
from scheduling.wiring import wired
from tenants.models import Team, TeamWindow

LONGEST_MIN_RUNTIME = timedelta(days=30)


class NeverOpen(Rejected):
    """With these hours the team '{team}' could never start anything: they never meet those of the teams above it."""

    field = "hours"


class TooLongAlone(Rejected):
    """A minimum runtime is at most {most} days; nobody could take anything back from the team '{team}' before."""

    field = "min_runtime"


class BadReference(Rejected):
    """The reference node of '{pool}' makes no sense: {why}."""

    field = "reference"


@transaction.atomic
def set_hours(*, team: Team, windows: Sequence[Window]) -> None:
    """Jobs of `team`, and of the teams below it, start in these windows only; none: at any time. What runs goes on.
    Raises NeverOpen, also for a team below."""
    list(Team.objects.select_for_update().order_by("pk"))  # two changes that each fit alone may not fit together
    tree = {known.id: replace(known, windows=tuple(windows)) if known.id == team.pk else known for known in teams()}
    for known in tree.values():
        if not ever_meet(windows_of(known.id, tree)):
            raise NeverOpen(team=known.name)
    TeamWindow.objects.filter(team=team).delete()
    TeamWindow.objects.bulk_create(
        TeamWindow(team=team, days=sum(1 << day for day in span.days), starts=span.starts, ends=span.ends)
        for span in windows
    )
    transaction.on_commit(wired().hint_tick)


def set_min_runtime(*, team: Team, min_runtime: timedelta) -> None:
    """Work of `team` is left alone for so long after each start, unless a job says more; 0: for as long as the policy
    says. It does not bind the teams below it. Raises TooLongAlone."""
    if min_runtime > LONGEST_MIN_RUNTIME:
        raise TooLongAlone(team=team.slug, most=LONGEST_MIN_RUNTIME.days)
    Team.objects.filter(pk=team.pk).update(min_runtime=min_runtime)
    transaction.on_commit(wired().hint_tick)


@transaction.atomic
def set_reference(*, pool: Pool, reference: tuple[int, int, int], now: datetime) -> None:
    """From now on CPU and memory in `pool` are charged by this node (GPUs, thousandths of a core, MiB); all 0: they
    cost nothing extra. What is held is charged anew, and counts as before up to now. Raises BadReference."""
    Pool.objects.select_for_update().get(pk=pool.pk)  # nobody places anything here meanwhile
    gpu_pool = Gpu.objects.filter(node__pool=pool, retired_at__isnull=True).exists()
    flaw = reference_flaw(reference, gpu_pool=gpu_pool)
    if flaw is not None:
        raise BadReference(pool=pool.name, why=flaw[1])
    live = Allocation.objects.filter(node__pool=pool, released_at__isnull=True).select_related("slot__gpu", "job")
    kept = ClaimedSlot.objects.filter(node__pool=pool).select_related("slot__gpu", "claim__job")
    holders = {(row.job.team_id, row.job.owner_id) for row in live}
    holders |= {(row.claim.job.team_id, row.claim.job.owner_id) for row in kept}
    settle(pool.name, holders, now=now)  # by the charges until now, before they change
    columns = ("reference_gpus", "reference_cpu_millis", "reference_memory_mib")
    Pool.objects.filter(pk=pool.pk).update(**dict(zip(columns, reference, strict=True)))
    charges, parts = Charges(), defaultdict[tuple[str, int, int, int], list[Allocation | ClaimedSlot]](list)
    for row in live:
        parts["job", row.job_id, row.attempt, row.part].append(row)
    for slot in kept:
        parts["claim", slot.claim_id, 0, slot.part].append(slot)
    for rows in parts.values():
        (part,) = parts_of(rows)
        lead = next(row for row in rows if row.lead)
        lead.charge = charges.of(part, pool.name)
        lead.save(update_fields=["charge"])
    transaction.on_commit(wired().hint_tick)
