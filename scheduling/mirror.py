"""A planner that is kept in step with the database: what changed since the last look is read, and nothing else.

A long queue that stands still would otherwise be read, and sorted, anew every other second. What has changed is seen
from the rows themselves, not from messages that might be lost: a job is the same as long as its version is, and a
machine as long as its few plain columns are. So whoever changes what a job asks for must count up its version.

The rule of the warm planner (`core/state.py`) holds here as well: after every `catch_up` it plans what a cold one
would plan on `load_cluster`. Where a change is rare or large, the mirror simply begins anew; and it does so every few
minutes, to say in the log if the rule was ever broken.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from portal.kernel.locks import steady_view
from scheduling.core.cluster import Ask, Booking, Cluster, Run, Team
from scheduling.core.collector import collector_paused
from scheduling.core.plan import Planner
from scheduling.core.policy import Policy
from scheduling.shaping import seconds, teams
from scheduling.snapshot import (
    Mark,
    NodeFacts,
    RunMark,
    load_asks,
    load_bookings,
    load_claims,
    load_cluster,
    load_past,
    load_pools,
    load_runs,
    nodes_as_they_are,
    run_marks,
    waiting_marks,
)

log = logging.getLogger("berth.tick")

#: of so many changed jobs it is quicker to load all, and lists of ids stay short
MANY = 4_000
CHECK_EVERY = timedelta(minutes=10)


class Mirror:
    """One process's planner. Not safe between threads. `anew`: how often it had to load everything."""

    def __init__(self, policy: Policy) -> None:
        self.planner = Planner(policy)
        self.anew = 0
        self._nodes: dict[int, NodeFacts] | None = None
        self._waiting: dict[int, Mark] = {}
        self._runs: dict[int, RunMark] = {}
        #: the asks of each waiting row
        self._asks: dict[int, tuple[int, ...]] = {}
        self._teams: tuple[Team, ...] = ()
        self._bookings: tuple[Booking, ...] = ()
        self._check_at: datetime | None = None

    def catch_up(self, now: datetime) -> Planner:
        """The planner as the database is at this moment, in a fixed number of queries."""
        with steady_view(), collector_paused():
            nodes, waiting, runs, before = nodes_as_they_are(now), waiting_marks(), run_marks(), self._nodes
            self._nodes = None  # until all is told: an error half-way means to begin anew
            followed = before is not None and self._follow(before, nodes, waiting, runs, now)
            if not followed or self._check_at is None or now >= self._check_at:
                self._begin(now, compare=followed)
            self._nodes, self._waiting, self._runs = nodes, waiting, runs
        return self.planner

    def _begin(self, now: datetime, *, compare: bool) -> None:
        held, asks = self.planner.snapshot() if compare else None, load_asks()
        cluster = load_cluster(now, asks)
        self.planner.load(cluster)
        if held is not None and _known(held) != _known(self.planner.snapshot()):
            log.error("the mirror had lost its way: %s", _differences(held, self.planner.snapshot()))
        self._asks = {row: _numbers(wishes) for row, wishes in asks.items()}
        self._teams, self._bookings = cluster.teams, cluster.bookings
        self._check_at = now + CHECK_EVERY
        self.anew += 1

    def _follow(
        self,
        before: dict[int, NodeFacts],
        nodes: dict[int, NodeFacts],
        waiting: dict[int, Mark],
        runs: dict[int, RunMark],
        now: datetime,
    ) -> bool:
        """Tell the planner what changed. False: too much, or what it cannot be told; nothing was told then."""
        planner, at = self.planner, seconds(now)
        fresh = [row for row, mark in waiting.items() if self._waiting.get(row) != mark]
        moved = [job for job, mark in runs.items() if self._runs.get(job) != mark]
        over = [job for job in planner.runs if job not in runs]
        pools = {pool.name: pool for pool in load_pools()}
        if len(fresh) + len(moved) + len(over) > MANY or pools != planner.pools or not _alike(before, nodes):
            return False
        asks, started = load_asks(fresh) if fresh else {}, load_runs(moved)
        claims = {claim.job: claim for claim in load_claims({(job, mark.attempt) for job, mark in runs.items()})}
        rights, past, bookings = teams(), load_past(), load_bookings()

        for job in [job for job, claim in planner.claims.items() if claims.get(job) != claim]:
            planner.unclaimed(job, now=at)
        same = {run.job for run in started if _goes_on(planner, run)}
        for job in [*over, *(run.job for run in started if run.job in planner.runs and run.job not in same)]:
            planner.ended(job, now=at)
        self._withdraw(waiting, asks)
        for id, facts in nodes.items():
            if before.get(id) != facts:
                planner.node_changed(facts.as_node())
        if rights != self._teams:
            planner.teams_changed(rights)
        if bookings != self._bookings:
            planner.booked(bookings)
        for row, wishes in asks.items():
            self._asks[row] = _numbers(wishes)
            for ask in wishes:
                if planner.queue.asks.get(ask.job) != ask:
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
        self._teams, self._bookings = rights, bookings
        return True

    def _withdraw(self, waiting: dict[int, Mark], asks: dict[int, tuple[Ask, ...]]) -> None:
        """What no waiting row asks for any more."""
        for row in [row for row in self._asks if row not in waiting]:
            for ask in self._asks.pop(row):
                self.planner.withdraw(ask)
        for row, wishes in asks.items():
            for ask in set(self._asks.get(row, ())).difference(_numbers(wishes)):
                self.planner.withdraw(ask)


def _numbers(asks: tuple[Ask, ...]) -> tuple[int, ...]:
    return tuple(ask.job for ask in asks)


def _known(cluster: Cluster) -> Cluster:
    """Without means that are nothing: whether they are there at all means nothing either."""
    return replace(cluster, past=tuple(past for past in cluster.past if past.mean or past.at))


def _differences(mine: Cluster, there: Cluster) -> str:
    """Which parts of the snapshot differ, for the log."""
    return ", ".join(name for name in Cluster.__dataclass_fields__ if getattr(mine, name) != getattr(there, name))


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
