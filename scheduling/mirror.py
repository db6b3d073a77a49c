"""A planner that is kept in step with the database: what changed since the last look is read, and nothing else.

A long queue that stands still would otherwise be read, and sorted, anew every other second. What has changed is seen
from the rows themselves, not from messages that might be lost: a job is the same as long as its version is, and a
machine as long as its few plain columns are. So whoever changes what a job asks for must count up its version.

The rule of the warm planner (`core/state.py`) holds here as well: after every `catch_up` it plans what a cold one would
plan on `load_cluster`. Where a change is rare or large, the mirror simply begins anew.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from django.db.models import Count, Max, Q

from portal.kernel.locks import steady_view
from scheduling.core.cluster import Booking, Past, Run, Team
from scheduling.core.collector import collector_paused
from scheduling.core.lifecycle import JobState
from scheduling.core.plan import Planner
from scheduling.core.policy import Policy
from scheduling.models import Allocation, Job
from scheduling.shaping import seconds, teams
from scheduling.snapshot import (
    NodeFacts,
    load_asks,
    load_bookings,
    load_claims,
    load_cluster,
    load_past,
    load_pools,
    load_runs,
    nodes_as_they_are,
)

log = logging.getLogger("berth.tick")

#: of so many changed jobs it is quicker to load all, and lists of ids stay short
MANY = 4_000
#: what a run is told apart by: version, attempt, allocations still held, cards still there, last sign of progress
RunMark = tuple[int, int, int, int, datetime | None]


class Mirror:
    """One process's planner. Not safe between threads. `anew`: how often it had to load everything."""

    def __init__(self, policy: Policy) -> None:
        self.planner = Planner(policy)
        self.anew = 0
        self._nodes: dict[int, NodeFacts] | None = None
        self._runs: dict[int, RunMark] = {}
        self._teams: tuple[Team, ...] = ()
        self._past: tuple[Past, ...] = ()
        self._bookings: tuple[Booking, ...] = ()

    def forget(self) -> None:
        """Load everything at the next look."""
        self._nodes = None

    def catch_up(self, now: datetime) -> Planner:
        """The planner as the database is at this moment, in a fixed number of queries."""
        with steady_view(), collector_paused():
            nodes, runs, before = nodes_as_they_are(now), _run_marks(), self._nodes
            self._nodes = None  # until all is told: an error half-way means to begin anew
            if before is None or not self._follow(before, nodes, runs, now):
                self._begin(now)
            self._nodes, self._runs = nodes, runs
        return self.planner

    def _begin(self, now: datetime) -> None:
        cluster = load_cluster(now)
        self.planner.load(cluster)
        self._teams, self._past, self._bookings = cluster.teams, cluster.past, cluster.bookings
        self.anew += 1

    def _follow(
        self, before: dict[int, NodeFacts], nodes: dict[int, NodeFacts], runs: dict[int, RunMark], now: datetime
    ) -> bool:
        """Tell the planner what changed. False: too much, or what it cannot be told; nothing was told then."""
        planner, at = self.planner, seconds(now)
        waiting = dict(Job.objects.filter(state=JobState.QUEUED).order_by().values_list("pk", "version"))
        fresh = [job for job, version in waiting.items() if _other(planner, job, version)]
        moved = [job for job, mark in runs.items() if self._runs.get(job) != mark]
        over = [job for job in planner.runs if job not in runs]
        pools = {pool.name: pool for pool in load_pools()}
        if len(fresh) + len(moved) + len(over) > MANY or pools != planner.pools or not _alike(before, nodes):
            return False
        started = load_runs(moved)
        holding = {(job, mark[1]) for job, mark in runs.items()}
        claims = {claim.job: claim for claim in load_claims(holding)}
        rights, past, bookings = teams(), load_past(), load_bookings()

        for job in [job for job, claim in planner.claims.items() if claims.get(job) != claim]:
            planner.unclaimed(job, now=at)
        for job in over:
            planner.ended(job, now=at)
        same = {run.job for run in started if _goes_on(planner, run)}
        for run in started:
            if run.job in planner.runs and run.job not in same:
                planner.ended(run.job, now=at)
        for job in [job for job in planner.queue.asks if job not in waiting]:
            planner.withdraw(job)
        for id, facts in nodes.items():
            if before.get(id) != facts:
                planner.node_changed(facts.as_node())
        if rights != self._teams:
            planner.teams_changed(rights)
        if bookings != self._bookings:
            planner.booked(bookings)
        for ask in load_asks(fresh) if fresh else ():
            planner.submit(ask)
        for run in started:
            if run.job in same:
                planner.changed(run, now=at)
            else:
                planner.started(run, now=at)
        for job, claim in sorted(claims.items()):
            if job in planner.queue.asks and planner.claims.get(job) != claim:
                planner.claimed(claim, now=at)
        # The database keeps the past; what the planner made of the events on the way here is its own reckoning.
        planner.remembered(past)
        self._teams, self._past, self._bookings = rights, past, bookings
        return True


def _other(planner: Planner, job: int, version: int) -> bool:
    known = planner.queue.asks.get(job)
    return known is None or known.version != version


def _run_marks() -> dict[int, RunMark]:
    live = Allocation.objects.filter(released_at__isnull=True).order_by()
    rows = live.values_list("job_id", "job__version", "attempt").annotate(
        held=Count("pk"),
        cards=Count("pk", filter=Q(slot__gpu__retired_at__isnull=True)),
        progress=Max("phase_at", filter=Q(lead=True)),
    )
    return {job: (version, attempt, held, cards, progress) for job, version, attempt, held, cards, progress in rows}


def _alike(before: dict[int, NodeFacts], after: dict[int, NodeFacts]) -> bool:
    """Are these changes of nodes ones that a planner can be told? It does not hear of a pool that loses its last card,
    nor of a node that changes its pool or is removed."""
    if any(id not in after or after[id].pool != facts.pool for id, facts in before.items()):
        return False
    return _gpu_pools(before.values()) <= _gpu_pools(after.values())


def _gpu_pools(nodes: Iterable[NodeFacts]) -> set[str]:
    return {facts.pool for facts in nodes if facts.cards}


def _goes_on(planner: Planner, run: Run) -> bool:
    """Is it the run that the planner knows, in another state at most? Else it has left its place in between."""
    known = planner.runs.get(run.job)
    return (
        known is not None
        and known.parts == run.parts
        and known.pool == run.pool
        and known.held_at == run.held_at
        and replace(known.ask, version=run.ask.version) == run.ask
    )
