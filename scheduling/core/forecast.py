"""The same core run forward: when will each job start, does a deadline hold, and what would another policy have done?

Nothing here decides differently: time moves from event to event, and every event is one plan of the warm planner.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

from scheduling.core.cluster import Ask, Booking, Cluster, Node, Outcome, Run, Team, parked, requeued
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.core.plan import Planner
from scheduling.core.policy import DAY, Policy
from scheduling.core.promises import NEVER
from scheduling.core.windows import next_edge, windows_of

MONTH_S = 30 * DAY  #: estimates look no further

#: how long a run will really take, in seconds of RUNNING time
Lasting = Callable[[Ask], int]


def by_limit(ask: Ask) -> int:
    """The most that anybody may take: every run goes to its limit."""
    return ask.limit_s


def estimate_starts(
    cluster: Cluster, policy: Policy, now: int, *, lasting: Lasting = by_limit, horizon_s: int = MONTH_S
) -> dict[int, int]:
    """When each waiting job starts if runs last as `lasting` says and nothing new arrives; without those that do not
    start within the horizon."""
    return Forward(cluster, policy, now, lasting).run(until=now + horizon_s).starts


@dataclass(frozen=True, slots=True)
class StartRange:
    """It starts by `p50` with even odds, and by `p90` nine times out of ten; None: not within the horizon."""

    p50: int | None
    p90: int | None


def start_ranges(
    cluster: Cluster, policy: Policy, now: int, *, median: Lasting, late: Lasting, horizon_s: int = MONTH_S
) -> dict[int, StartRange]:
    """For every waiting job: the queue run forward twice, with the median and with the 90th percentile of what jobs
    like each one use of their limits (`runtimes.UsedOfLimit`). Where longer runs happen to let a job start earlier,
    the later of the two answers is its P90."""
    soon = estimate_starts(cluster, policy, now, lasting=median, horizon_s=horizon_s)
    slow = estimate_starts(cluster, policy, now, lasting=late, horizon_s=horizon_s)
    ranges = {}
    for ask in cluster.asks:
        p50, p90 = soon.get(ask.job), slow.get(ask.job)
        ranges[ask.job] = StartRange(p50, None if p50 is None or p90 is None else max(p50, p90))
    return ranges


def meets_deadline(cluster: Cluster, policy: Policy, now: int, ask: Ask) -> bool:
    """May this deadline be accepted? Only if the forward run, with every run at its limit, starts the job in time and
    keeps every deadline that was accepted before. Each run goes only as far as the answer needs."""
    world = replace(cluster, asks=(*(other for other in cluster.asks if other.job != ask.job), ask))
    if not _kept((ask,), world, policy, now, until=ask.deadline):
        return False
    others = tuple(other for other in cluster.asks if other.deadline and other.job != ask.job)
    promised = _kept(others, cluster, policy, now, until=now + MONTH_S)
    return len(_kept(promised, world, policy, now, until=now + MONTH_S)) == len(promised)


def _kept(asks: tuple[Ask, ...], cluster: Cluster, policy: Policy, now: int, *, until: int) -> tuple[Ask, ...]:
    """Those of `asks`, which wait in `cluster`, whose deadlines the forward run keeps by starts not after `until`."""
    last = min(max((ask.deadline - ask.limit_s for ask in asks), default=now - 1), until)
    if last < now:
        return ()
    awaited = {ask.job for ask in asks}
    starts = Forward(cluster, policy, now, by_limit).run(until=last, awaited=awaited).starts
    return tuple(ask for ask in asks if _in_time(ask, starts))


def _in_time(ask: Ask, starts: Mapping[int, int]) -> bool:
    return ask.job in starts and starts[ask.job] + ask.limit_s <= ask.deadline


@dataclass(frozen=True, slots=True)
class Alternative:
    """What would be different: another policy, other teams with their quotas, other nodes, other bookings. None: as
    it is."""

    policy: Policy | None = None
    teams: tuple[Team, ...] | None = None
    nodes: tuple[Node, ...] | None = None
    bookings: tuple[Booking, ...] | None = None

    def applied(self, cluster: Cluster) -> Cluster:
        """The same demand under it. A run on a node that it lacks keeps its place until it ends."""
        return replace(
            cluster,
            teams=cluster.teams if self.teams is None else self.teams,
            nodes=cluster.nodes if self.nodes is None else self.nodes,
            bookings=cluster.bookings if self.bookings is None else self.bookings,
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """One demand under two rules: starts by job, evictions, and seconds waited together, before and after."""

    starts: tuple[Mapping[int, int], Mapping[int, int]]
    evictions: tuple[int, int]
    waited_s: tuple[int, int]


def what_if(
    cluster: Cluster, policy: Policy, now: int, change: Alternative, *,
    lasting: Lasting = by_limit, horizon_s: int = MONTH_S,
) -> Difference:  # fmt: skip
    """The same waiting and running jobs under today's rules and under others; who does not start within the horizon
    waits all of it."""
    today = Forward(cluster, policy, now, lasting).run(until=now + horizon_s)
    changed = Forward(change.applied(cluster), change.policy or policy, now, lasting)
    other = changed.run(until=now + horizon_s)
    end = now + horizon_s
    waited = tuple(sum(run.starts.get(ask.job, end) - now for ask in cluster.asks) for run in (today, other))
    return Difference((today.starts, other.starts), (today.evictions, other.evictions), (waited[0], waited[1]))


class Forward:
    """A run of the queue into the future. Launching and stopping take no time beyond the grace."""

    def __init__(self, cluster: Cluster, policy: Policy, now: int, lasting: Lasting) -> None:
        self.planner = Planner(policy, explain=False)
        self.planner.load(cluster)
        self.policy, self.now, self.lasting = policy, now, lasting
        self.starts: dict[int, int] = {}
        self.evictions = 0
        self._calm: dict[int, int] = {}
        self._edges: dict[int, int] = {}
        self._events: list[tuple[int, int, int]] = [
            (self._end_of(run), job, run.held_at) for job, run in self.planner.runs.items()
        ]
        heapify(self._events)
        self._wake_for(cluster.asks)

    def run(self, *, until: int, awaited: Set[int] | None = None) -> "Forward":
        """Go on until nobody waits, nothing more can happen, all who are `awaited` have started, or `until`."""
        self._cycle()
        while self._events and self.planner.queue.asks and self._events[0][0] <= until:
            if awaited is not None and awaited <= self.starts.keys():
                break
            self.now = max(self.now, self._events[0][0])
            while self._events and self._events[0][0] <= self.now:
                _, job, held_at = heappop(self._events)
                run = self.planner.runs.get(job)
                if run is not None and run.held_at == held_at and self._end_of(run) <= self.now:
                    self._ended(run)
            self._cycle()
        return self

    def _end_of(self, run: Run) -> int:
        if run.state in (JobState.STOPPING, JobState.SUSPENDING):
            return max(self.now, run.since + self.policy.grace_s)
        if not run.running_at:
            return max(self.now, run.held_at) + self.lasting(run.ask)
        return max(self.now, run.running_at + min(self.lasting(run.ask), run.ask.limit_s))

    def _ended(self, run: Run) -> None:
        self.planner.ended(run.job, now=self.now)
        if run.state is JobState.SUSPENDING:
            calm, ran_s = self._calm.pop(run.job, 0), run.since - run.running_at
            pinned = not self.policy.keeps_work
            ask = parked(run, now=self.now, ran_s=ran_s, calm_until=calm, pinned=pinned)
            self.planner.submit(ask)
            self._wake_for((ask,))
        elif run.end_reason is EndReason.EVICT:
            calm = self.policy.no_evict_s
            ask = requeued(run, now=self.now, outcome=Outcome.EVICTED, no_evict_s=calm)
            self.planner.submit(ask)
            heappush(self._events, (ask.may_evict_from, 0, 0))

    def _wake_for(self, asks: Iterable[Ask]) -> None:
        """Times at which something becomes possible though nothing ends."""
        for at in {t for ask in asks for t in (ask.not_before, ask.may_evict_from) if t > self.now}:
            heappush(self._events, (at, 0, 0))
        for booking in self.planner.bookings:
            heappush(self._events, (max(self.now, booking.ends), 0, 0))
        for run in self.planner.runs.values():
            self._wake_when_evictable(run)

    def _wake_when_evictable(self, run: Run) -> None:
        """Past its minimum runtime somebody may take its place."""
        at = self.planner.evictable_from(run.ask, run.running_at or self.now)
        if self.now < at < NEVER:
            heappush(self._events, (at, 0, 0))

    def _wake_for_windows(self) -> None:
        """Teams with hours and waiting jobs: nothing else may happen until these begin, or until they end and what they
        would have started no longer goes before the others."""
        planner = self.planner
        for team in sorted(team for team, people in planner.queue.rows.items() if people):
            windows = [window for each in windows_of(team, planner.teams) for window in each]
            if windows and self._edges.get(team, 0) <= self.now:
                self._edges[team] = next_edge(windows, self.now)
                heappush(self._events, (self._edges[team], 0, 0))

    def _cycle(self) -> None:
        """One plan, done at once: what starts in it may make room for nobody, so one is enough per event."""
        planner, now = self.planner, self.now
        outcome = planner.plan(now)
        for recut in outcome.recuts:
            planner.recut(recut)
        for place in outcome.places:
            ask = planner.queue.asks[place.job]
            self.starts.setdefault(place.job, now)
            run = Run(ask, place.parts, now, JobState.RUNNING, now, now, pool=place.pool)
            planner.started(run, now=now)
            self._wake_when_evictable(run)
            heappush(self._events, (self._end_of(run), place.job, now))
        for claim in outcome.claims:
            planner.claimed(claim, now=now)
        for credit in outcome.credits:
            planner.credited(credit, now=now)
        for stop in outcome.stops:
            self._going(stop.job, JobState.STOPPING, stop.reason)
        for suspend in outcome.suspends:
            self._calm[suspend.job] = suspend.calm_until
            self._going(suspend.job, JobState.SUSPENDING, None)
        self._wake_for_windows()

    def _going(self, job: int, state: JobState, reason: EndReason | None) -> None:
        run = self.planner.runs.get(job)
        if run is None:  # suspended for too long: it begins anew
            ask = self.planner.queue.asks[job]
            self.planner.submit(replace(ask, pinned=(), suspended_at=0, attained=0, restarts=ask.restarts + 1))
            heappush(self._events, (self.now, 0, 0))
            return
        self.evictions += reason in (None, EndReason.EVICT)
        going = replace(run, state=state, since=self.now, end_reason=reason)
        self.planner.changed(going, now=self.now)
        heappush(self._events, (self._end_of(going), job, going.held_at))
