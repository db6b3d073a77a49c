"""The database as one frozen `core.Cluster`, in a fixed number of queries."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from django.db.models import Count, Max, Q

from portal.kernel.locks import steady_view
from scheduling.core.cluster import Ask, Booking, Claim, Cluster, Gpu, Node, Past, Pool, Run
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.models import Allocation, ClaimedSlot, Job, NodeState, PastUse
from scheduling.models import Booking as BookingRow
from scheduling.models import Claim as ClaimRow
from scheduling.models import Gpu as GpuRow
from scheduling.models import Node as NodeRow
from scheduling.models import Pool as PoolRow
from scheduling.records.arrays import asks_of, at_work
from scheduling.shaping import accepts_work, ask_of_run, parts_of, reference_of, seconds, teams, usable

#: wide columns that no decision looks at
_UNREAD = (
    "name",
    "image",
    "command",
    "script",
    "env",
    "volume",
    "probe_path",
    "end_message",
    "log_tail",
    "hold_numbers",
    "terms",
)


class NodeFacts(NamedTuple):
    """A machine in plain values, quick to compare: all that a core Node is made of. cards: (id, model, MiB, island)."""

    id: int
    name: str
    pool: str
    accepts: bool
    draining: bool
    cpu_millis: int
    memory_mib: int
    cards: tuple[tuple[int, str, int | None, int], ...]
    labels: tuple[tuple[str, str], ...]
    path: tuple[str, ...]
    out_of_order: int

    def as_node(self) -> Node:
        return Node(
            id=self.id,
            name=self.name,
            pool=self.pool,
            accepts=self.accepts,
            draining=self.draining,
            cpu_millis=self.cpu_millis,
            memory_mib=self.memory_mib,
            gpus=tuple(
                Gpu(id=card, model=model, memory_mib=memory or 0, island=island)
                for card, model, memory, island in self.cards
            ),
            labels=self.labels,
            path=self.path,
            out_of_order=self.out_of_order,
        )


def load_cluster(now: datetime, asks: Mapping[int, tuple[Ask, ...]] | None = None, *, emptying: int = 0) -> Cluster:
    """Everything that `plan` looks at, as of one moment. No `mix` of past asks: it matters for shares of cards only.

    asks: those of `load_asks`, where they have been loaded in this very transaction. emptying: the id of a node that
    is, or may be, emptied.
    """
    with steady_view():
        held = _held()
        return Cluster(
            nodes=tuple(facts.as_node() for facts in nodes_as_they_are(now).values()),
            asks=tuple(ask for wishes in (load_asks() if asks is None else asks).values() for ask in wishes),
            runs=_runs(held, emptying=emptying),
            pools=load_pools(),
            teams=teams(),
            past=load_past(),
            claims=load_claims({(row.job_id, row.attempt) for rows in held.values() for row in rows}),
            bookings=load_bookings(),
        )


def load_runs_on(node: int) -> Cluster:
    """Only the runs that have a part on this node, whole, and the teams: all that `core.drain.going` looks at."""
    with steady_view():
        live = Allocation.objects.filter(node=node, released_at__isnull=True)
        return Cluster(runs=load_runs(set(live.values_list("job_id", flat=True)), emptying=node), teams=teams())


def load_empty(now: datetime) -> Cluster:
    """The machines and the rights as if nobody used them and every machine that is here for good worked: what a job
    that is submitted can hope for at best. Teams' hours are left out, for they come again."""
    with steady_view():
        nodes = [facts.as_node() for facts in nodes_as_they_are(now, sick_too=True).values()]
        gone = set(NodeRow.objects.filter(state__in=[NodeState.LOST, NodeState.FENCED]).values_list("pk", flat=True))
        return Cluster(
            nodes=tuple(replace(node, accepts=True) for node in nodes if node.id not in gone),
            pools=load_pools(),
            teams=tuple(replace(team, windows=()) for team in teams()),
        )


def load_pools() -> tuple[Pool, ...]:
    return tuple(Pool(row.name, *reference_of(row)) for row in PoolRow.objects.order_by("name"))


def nodes_as_they_are(now: datetime, *, sick_too: bool = False) -> dict[int, NodeFacts]:
    """Every machine by id, in two queries."""
    gpus: dict[int, list[tuple[int, str, int | None, int]]] = defaultdict(list)
    sick: dict[int, int] = defaultdict(int)
    cards = GpuRow.objects.filter(retired_at__isnull=True).order_by("index", "id")
    columns = ("node_id", "pk", "model", "memory_mib", "island", "quarantined_at", "held_units")
    for node, card, model, memory, island, quarantined_at, held in cards.values_list(*columns):
        if usable(quarantined_at, held) or sick_too:
            gpus[node].append((card, model, memory, island))
        else:
            sick[node] += 1
    rows = NodeRow.objects.select_related("pool").defer("notes", "images", "facts").order_by("id")
    return {
        row.pk: NodeFacts(
            id=row.pk,
            name=row.name,
            pool=row.pool.name,
            accepts=accepts_work(row, now),
            draining=row.state == NodeState.DRAINING,
            cpu_millis=row.cpu_millis,
            memory_mib=row.memory_mib,
            cards=tuple(gpus[row.pk]),
            labels=tuple(sorted((str(key), str(value)) for key, value in row.labels.items())),
            path=tuple(row.path),
            out_of_order=sick[row.pk],
        )
        for row in rows
    }


def load_asks(rows: Collection[int] | None = None) -> dict[int, tuple[Ask, ...]]:
    """What those who wait ask for, by row; or only these rows. In the order in which they came."""
    waiting = Job.objects.filter(state=JobState.QUEUED).defer(*_UNREAD).order_by("submitted_at", "id")
    live = at_work()
    return {job.pk: asks_of(job, live) for job in (waiting if rows is None else waiting.filter(pk__in=rows))}


#: What a row that waits is told apart by from look to look. Whatever `load_asks`, or `load_runs`, makes of a row must
#: be the same while its mark is: what can change without the row's version belongs into the mark.
Mark = tuple[object, ...]


class RunMark(NamedTuple):
    """The mark of a row that holds something. held: allocations; cards: of these, on cards that are still there; sick:
    on cards in quarantine; progress: the last sign of it."""

    attempt: int
    version: int
    held: int
    cards: int
    sick: int
    progress: datetime | None


def waiting_marks() -> dict[int, Mark]:
    """Of every row that `load_asks` would load."""
    live = at_work()  # a task of an array that ends lets another one ask
    rows = Job.objects.filter(state=JobState.QUEUED).order_by()
    marks = rows.values_list("pk", "version", "array_left", "array_limit")
    return {job: (version, left, live.get(job, 0) if limit else 0) for job, version, left, limit in marks}


def run_marks() -> dict[int, RunMark]:
    """Of every row that `load_runs` would load."""
    live = Allocation.objects.filter(released_at__isnull=True).order_by()
    rows = live.values_list("job_id", "attempt", "job__version").annotate(
        held=Count("pk"),
        cards=Count("pk", filter=Q(slot__gpu__retired_at__isnull=True)),
        sick=Count("pk", filter=Q(slot__gpu__quarantined_at__isnull=False)),
        progress=Max("phase_at", filter=Q(lead=True)),
    )
    return {job: RunMark(*mark) for job, *mark in rows}


def _held(jobs: Collection[int] | None = None) -> dict[int, list[Allocation]]:
    """Live allocations by job."""
    held: dict[int, list[Allocation]] = defaultdict(list)
    live = Allocation.objects.filter(released_at__isnull=True).select_related("slot__gpu")
    if jobs is not None:
        live = live.filter(job__in=jobs)
    for allocation in live.order_by("part", "id"):
        held[allocation.job_id].append(allocation)
    return held


def load_runs(jobs: Collection[int], *, emptying: int = 0) -> tuple[Run, ...]:
    """Of those of these jobs that hold something."""
    return _runs(_held(jobs), jobs, emptying=emptying) if jobs else ()


def _runs(
    held: dict[int, list[Allocation]], jobs: Collection[int] | None = None, *, emptying: int = 0
) -> tuple[Run, ...]:
    """Whatever holds something, with the parts that it holds."""
    runs = []
    pool_of = dict(NodeRow.objects.values_list("pk", "pool__name"))
    # By a subquery: SQLite limits the length of a list of ids.
    live = Allocation.objects.filter(released_at__isnull=True)
    holding = Job.objects.filter(pk__in=live.values("job")) if jobs is None else Job.objects.filter(pk__in=list(held))
    for job in holding.defer(*_UNREAD).order_by("id"):
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
                pool=pool_of[rows[0].node_id],
                end_reason=EndReason(job.end_reason) if job.end_reason else None,
            )
        )
    return tuple(runs)


def load_past() -> tuple[Past, ...]:
    rows = PastUse.objects.order_by("pool", "team", "person")
    return tuple(Past(row.team, row.person, row.pool, row.mean, row.at) for row in rows)


def load_claims(holding: set[tuple[int, int]]) -> tuple[Claim, ...]:
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


def load_bookings() -> tuple[Booking, ...]:
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
