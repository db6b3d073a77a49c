"""Rows in the core's words: one function for each shape that crosses from the database into `core.Cluster`."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from scheduling.core.cluster import Ask, Need, Part, Piece, Quota, Shape, Team, Window
from scheduling.models import Allocation, ClaimedSlot, Job, Node, NodeState, Pool
from scheduling.wiring import wired
from tenants.models import Quota as QuotaRow
from tenants.models import Team as TeamRow
from tenants.models import TeamWindow

WEEK = range(7)
#: the code with which a job is stopped whose node is being emptied: it was in nobody's way, and need not keep calm
DRAINED = "drained"


def seconds(moment: datetime | None) -> int:
    """A moment on core's axis, 0 for none."""
    return int(moment.timestamp()) if moment else 0


def accepts_work(node: Node, now: datetime) -> bool:
    """Ready, and its agent has answered of late."""
    answers = node.seen_at is not None and node.seen_at >= now - wired().silent_after and not node.trouble
    return node.state == NodeState.READY and answers


def ask_of(job: Job) -> Ask:
    """What a job asks for. Only a deadline that was accepted at submit is passed on: another orders nothing."""
    return Ask(
        job=job.pk,
        version=job.version,
        team=job.team_id,
        user=job.owner_id,
        submitted=int(job.submitted_at.timestamp() * 1000),
        limit_s=int(job.limit.total_seconds()),
        tier=job.tier,
        priority=job.priority,
        deadline=seconds(job.deadline_at) if job.deadline_accepted else 0,
        not_before=seconds(job.not_before_at),
        preemptible=job.preemptible,
        suspendable=job.suspendable,
        min_runtime_s=int(job.min_runtime.total_seconds()),
        may_evict_from=seconds(job.may_evict_from),
        attained=job.attained,
        restarts=job.restarts,
        shape=shape_of(job),
    )


def ask_of_run(job: Job, rows: Iterable[Allocation], *, emptying: int = 0) -> Ask:
    """What a job that holds these rows (with `slot__gpu`) asks for. One with a card in quarantine is left alone to its
    limit: its card goes to nobody, so it would fall for nothing. Unless its node, `emptying`, is to be emptied."""
    ask, rows = ask_of(job), list(rows)
    sick = any(row.slot is not None and row.slot.gpu.quarantined_at for row in rows)
    if sick and all(row.node_id != emptying for row in rows):
        return replace(ask, min_runtime_s=ask.limit_s)
    return ask


def usable(quarantined_at: datetime | None, held_units: int) -> bool:
    """Is such a card one of its node's, to the planner? In quarantine only as long as somebody still holds it."""
    return quarantined_at is None or held_units > 0


def shape_of(job: Job) -> Shape:
    return Shape(
        gpus=job.gpus,
        cpu_millis=job.cpu_millis,
        memory_mib=job.memory_mib,
        replicas=job.replicas,
        mig=job.mig,
        thousandths=job.thousandths,
        gpu_memory_mib=job.gpu_memory_mib,
        models=tuple(job.gpu_models),
        pools=tuple(job.pools),
        required=job.required,
        preferred=job.preferred,
        needs=tuple(Need(need["key"], tuple(need["values"]), need["absent"]) for need in job.needs),
    )


def parts_of(rows: Iterable[Allocation | ClaimedSlot]) -> tuple[Part, ...]:
    """Rows of allocations or of a claim, with `slot__gpu`, by replica. CPU and memory are on the lead rows."""
    parts: dict[tuple[int, int], list[Allocation | ClaimedSlot]] = defaultdict(list)
    for row in rows:
        parts[row.part, row.node_id].append(row)
    return tuple(
        Part(
            node=node,
            pieces=tuple(
                Piece(gpu=row.slot.gpu_id, units=row.units)
                for row in members
                if row.slot is not None and row.slot.gpu.retired_at is None
            ),
            cpu_millis=sum(row.cpu_millis for row in members),
            memory_mib=sum(row.memory_mib for row in members),
        )
        for (_, node), members in parts.items()
    )


def reference_of(pool: Pool) -> tuple[int, int, int]:
    """GPUs, CPU and memory of the pool's reference node, as `core.units.charge` takes them."""
    return (pool.reference_gpus, pool.reference_cpu_millis, pool.reference_memory_mib)


def teams() -> tuple[Team, ...]:
    """The whole team tree with quotas and windows, in three queries."""
    quotas: dict[int, list[Quota]] = defaultdict(list)
    for row in QuotaRow.objects.order_by("pool", "id"):
        quotas[row.team_id].append(
            Quota(
                pool=row.pool,
                guaranteed=row.guaranteed,
                percent_milli=row.percent_milli,
                borrow_limit=row.borrow_limit,
                lend_limit=row.lend_limit,
                weight=row.weight,
                user_limit=row.user_limit,
            )
        )
    windows: dict[int, list[Window]] = defaultdict(list)
    for span in TeamWindow.objects.order_by("id"):
        days = tuple(day for day in WEEK if span.days >> day & 1)
        windows[span.team_id].append(Window(days=days, starts=span.starts, ends=span.ends))
    return tuple(
        Team(
            id=team.pk,
            name=team.slug,
            parent=team.parent_id or 0,
            quotas=tuple(quotas[team.pk]),
            windows=tuple(windows[team.pk]),
            min_runtime_s=int(team.min_runtime.total_seconds()),
        )
        for team in TeamRow.objects.order_by("id")
    )
