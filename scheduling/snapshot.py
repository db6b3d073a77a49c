"""The database as one frozen `core.Cluster`, in a fixed number of queries."""

from collections import defaultdict
from dataclasses import replace
from datetime import datetime

from django.db.models import QuerySet

from portal.kernel.locks import steady_view
from scheduling.core.cluster import Ask, Booking, Claim, Cluster, Gpu, Node, Past, Pool, Run
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.models import Allocation, ClaimedSlot, Job, NodeState, PastUse
from scheduling.models import Booking as BookingRow
from scheduling.models import Claim as ClaimRow
from scheduling.models import Gpu as GpuRow
from scheduling.models import Node as NodeRow
from scheduling.models import Pool as PoolRow
from scheduling.shaping import accepts_work, ask_of, ask_of_run, parts_of, reference_of, seconds, teams, usable


def load_cluster(now: datetime, *, emptying: int = 0) -> Cluster:
    """Everything that `plan` looks at, as of one moment. No `mix` of past asks: it matters for shares of cards only.
    `emptying`: the id of a node that is, or may be, emptied."""
    with steady_view():
        held = _held()
        return Cluster(
            nodes=_nodes(now),
            asks=_asks(),
            runs=_runs(held, emptying=emptying),
            pools=_pools(),
            teams=teams(),
            past=_past(),
            claims=_claims({(row.job_id, row.attempt) for rows in held.values() for row in rows}),
            bookings=_bookings(),
        )


def load_runs_on(node: int) -> Cluster:
    """Only the runs that have a part on this node, whole, and the teams: all that `core.drain.going` looks at."""
    with steady_view():
        there = Allocation.objects.filter(node=node, released_at__isnull=True)
        return Cluster(runs=_runs(_held(there), there, emptying=node), teams=teams())


def load_empty(now: datetime) -> Cluster:
    """The machines and the rights as if nobody used them and every machine that is here for good worked: what a job
    that is submitted can hope for at best. Teams' hours are left out, for they come again."""
    with steady_view():
        gone = set(NodeRow.objects.filter(state__in=[NodeState.LOST, NodeState.FENCED]).values_list("pk", flat=True))
        return Cluster(
            nodes=tuple(replace(node, accepts=True) for node in _nodes(now, sick_too=True) if node.id not in gone),
            pools=_pools(),
            teams=tuple(replace(team, windows=()) for team in teams()),
        )


def _pools() -> tuple[Pool, ...]:
    return tuple(Pool(row.name, *reference_of(row)) for row in PoolRow.objects.order_by("name"))


def _nodes(now: datetime, *, sick_too: bool = False) -> tuple[Node, ...]:
    gpus: dict[int, list[Gpu]] = defaultdict(list)
    sick: dict[int, int] = defaultdict(int)
    for card in GpuRow.objects.filter(retired_at__isnull=True).order_by("index", "id"):
        if not usable(card) and not sick_too:
            sick[card.node_id] += 1
            continue
        gpus[card.node_id].append(
            Gpu(id=card.pk, model=card.model, memory_mib=card.memory_mib or 0, island=card.island)
        )
    return tuple(
        Node(
            id=row.pk,
            name=row.name,
            pool=row.pool.name,
            accepts=accepts_work(row, now),
            draining=row.state == NodeState.DRAINING,
            cpu_millis=row.cpu_millis,
            memory_mib=row.memory_mib,
            gpus=tuple(gpus[row.pk]),
            labels=tuple(sorted((str(key), str(value)) for key, value in row.labels.items())),
            path=tuple(row.path),
            out_of_order=sick[row.pk],
        )
        for row in NodeRow.objects.select_related("pool").order_by("id")
    )


def _asks() -> tuple[Ask, ...]:
    return tuple(ask_of(job) for job in Job.objects.filter(state=JobState.QUEUED).order_by("submitted_at", "id"))


def _held(of: QuerySet[Allocation] | None = None) -> dict[int, list[Allocation]]:
    """Live allocations by job: all, or those of the jobs that `of` belongs to."""
    held: dict[int, list[Allocation]] = defaultdict(list)
    live = Allocation.objects.filter(released_at__isnull=True).select_related("slot__gpu", "node__pool")
    if of is not None:
        live = live.filter(job__in=of.values("job"))
    for allocation in live.order_by("part", "id"):
        held[allocation.job_id].append(allocation)
    return held


def _runs(
    held: dict[int, list[Allocation]], of: QuerySet[Allocation] | None = None, *, emptying: int = 0
) -> tuple[Run, ...]:
    """Whatever holds something, with the parts that it holds."""
    runs = []
    # By a subquery: SQLite limits the length of a list of ids.
    live = Allocation.objects.filter(released_at__isnull=True) if of is None else of
    for job in Job.objects.filter(pk__in=live.values("job")).order_by("id"):
        rows = held[job.pk]
        news = [row.phase_at for row in rows if row.lead and row.phase_at]
        runs.append(
            Run(
                ask=ask_of_run(job, rows, emptying=emptying),
                parts=parts_of(rows),
                held_at=seconds(min(row.held_at for row in rows)),
                state=JobState(job.state),
                running_at=seconds(job.running_at),
                since=seconds(job.since_at),
                progress_at=seconds(max(news, default=None)),
                pool=rows[0].node.pool.name,
                end_reason=EndReason(job.end_reason) if job.end_reason else None,
            )
        )
    return tuple(runs)


def _past() -> tuple[Past, ...]:
    rows = PastUse.objects.order_by("pool", "team", "person")
    return tuple(Past(row.team, row.person, row.pool, row.mean, row.at) for row in rows)


def _claims(holding: set[tuple[int, int]]) -> tuple[Claim, ...]:
    """A victim counts while it still holds what it was to give up: once it is gone it may run elsewhere, and must then
    not be waited for."""
    rows: dict[int, list[ClaimedSlot]] = defaultdict(list)
    for row in ClaimedSlot.objects.select_related("slot__gpu").order_by("part", "id"):
        rows[row.claim_id].append(row)
    return tuple(
        Claim(
            job=claim.job_id,
            parts=parts_of(rows[claim.pk]),
            pool=claim.pool,
            made_at=seconds(claim.made_at),
            expires_at=seconds(claim.expires_at),
            victims=tuple(job for job, attempt in claim.victims if (job, attempt) in holding),
        )
        for claim in ClaimRow.objects.order_by("job_id")
    )


def _bookings() -> tuple[Booking, ...]:
    return tuple(
        Booking(
            id=row.pk,
            team=row.team_id,
            nodes=tuple(sorted(node.pk for node in row.nodes.all())),
            starts=seconds(row.starts_at),
            ends=seconds(row.ends_at),
        )
        for row in BookingRow.objects.prefetch_related("nodes").order_by("id")
    )
