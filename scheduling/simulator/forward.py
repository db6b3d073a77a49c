"""When will a waiting job start? The queue is run forward through the same plan, with run times learned from past ends.

Of the last 200 ends of the narrowest group that has at least 20 (person, team, everybody), the 90th percentile of
used/limit says how long jobs are assumed to run. Nobody new arrives in such a run: an estimate is a promise under the
present queue.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from scheduling.core.cluster import Ask, Cluster, Outcome, Run, requeued
from scheduling.core.decisions import Plan
from scheduling.core.lifecycle import EndReason
from scheduling.core.plan import Planner
from scheduling.core.policy import Policy

LAST, ENOUGH = 200, 20
WHOLE_LIMIT = 1000  # thousandths of its limit
_MOST_STEPS = 2_000


class UsedOfLimit:
    """How much of their limits jobs use, in thousandths."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, int], deque[int]] = {}

    def ended(self, ask: Ask, ran_s: int) -> None:
        used = min(WHOLE_LIMIT, -(-ran_s * WHOLE_LIMIT // max(1, ask.limit_s)))
        for group in ((ask.team, ask.user), (ask.team, 0), (0, 0)):
            self._ends.setdefault(group, deque(maxlen=LAST)).append(used)

    def at(self, ask: Ask, percent: int) -> int:
        """The percentile for a job like this; its whole limit until enough is known."""
        for group in ((ask.team, ask.user), (ask.team, 0), (0, 0)):
            ends = self._ends.get(group, ())
            if len(ends) >= ENOUGH:
                return sorted(ends)[min(len(ends) - 1, len(ends) * percent // 100)]
        return WHOLE_LIMIT


def forward_start(cluster: Cluster, policy: Policy, now: int, job: int, used: Callable[[Ask], int]) -> int | None:
    """The time at which the job starts if everybody uses so many thousandths of his limit; None if that cannot be told."""
    return _Forward(cluster, policy, used).until(job, now)


class _Forward:
    def __init__(self, cluster: Cluster, policy: Policy, used: Callable[[Ask], int]) -> None:
        self.policy, self.used = policy, used
        self.planner = Planner(policy, explain=False)
        self.planner.load(cluster)
        self.runs = {run.job: run for run in cluster.runs}
        self.asks = {ask.job: ask for ask in cluster.asks}
        self.ends: list[tuple[int, int, int]] = []
        for run in cluster.runs:
            self._expect(run, (run.running_at or run.held_at) + self._lasts(run.ask))

    def until(self, job: int, now: int) -> int | None:
        for _ in range(_MOST_STEPS):
            plan = self.planner.plan(now)
            if any(place.job == job for place in plan.places):
                return now
            if self._carry_out(plan, now):
                continue
            if not self.ends:
                return None
            now = max(now + 1, self.ends[0][0])
            while self.ends and self.ends[0][0] <= now:
                _, ended, held_at = heapq.heappop(self.ends)
                if ended in self.runs and self.runs[ended].held_at == held_at:
                    del self.runs[ended]
                    self.planner.ended(ended, now=now)
        return None

    def _lasts(self, ask: Ask) -> int:
        return max(1, ask.limit_s * self.used(ask) // WHOLE_LIMIT)

    def _expect(self, run: Run, end: int) -> None:
        heapq.heappush(self.ends, (end, run.job, run.held_at))

    def _carry_out(self, plan: Plan, now: int) -> bool:
        """True if something became free."""
        for place in plan.places:
            run = Run(self.asks.pop(place.job), place.parts, held_at=now, running_at=now, pool=place.pool)
            self.runs[place.job] = run
            self.planner.started(run, now=now)
            self._expect(run, now + self._lasts(run.ask))
        for claim in plan.claims:
            self.planner.claimed(claim, now=now)
        for stop in plan.stops:
            self._leave(stop.job, now, again=stop.reason is EndReason.EVICT)
        for suspend in plan.suspends:
            self._leave(suspend.job, now, again=True)
        return bool(plan.stops or plan.suspends)

    def _leave(self, job: int, now: int, *, again: bool) -> None:
        run = self.runs.pop(job, None)
        if run is None:
            ask = replace(self.asks[job], pinned=(), suspended_at=0)
        else:
            self.planner.ended(job, now=now)
            if not again:
                return
            ask = requeued(run, now=now, outcome=Outcome.EVICTED, no_evict_s=self.policy.no_evict_s)
        self.asks[job] = ask
        self.planner.submit(ask)
