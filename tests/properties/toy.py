"""A cluster in fast motion: it does what a plan says, lets runs end, and keeps the history of who evicted whom.

It is no simulator: time moves in steps that the test chooses, and every step first checks that a cold plan on the
snapshot is the plan that the warm planner makes.
"""

from dataclasses import fields, replace

from scheduling.core import mig
from scheduling.core.cluster import Cluster, Outcome, Run, parked, requeued
from scheduling.core.decisions import Plan
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.core.plan import Planner, plan
from scheduling.core.policy import Policy


class Toy:
    def __init__(self, cluster: Cluster, policy: Policy, *, slow_stops: bool = True, check_cold: bool = True) -> None:
        """`check_cold`: plan each snapshot cold as well, and compare."""
        self.policy, self.slow_stops, self.check_cold = policy, slow_stops, check_cold
        self.planner = Planner(policy)
        self.planner.load(cluster)
        self.now = 0
        self.started: dict[int, int] = {}
        self.evictions: list[tuple[int, int, int]] = []
        self.calm: dict[int, int] = {}

    def submit(self, ask) -> None:
        self.planner.submit(ask)

    def step(self, seconds: int, check=None):
        """Let `seconds` pass, end what is over, plan, check, enact. Answers the snapshot and the plan."""
        self.now += seconds
        self._end_runs()
        before = self.planner.snapshot()
        outcome = self.planner.plan(self.now)
        if self.check_cold:
            compare_with_cold(self.planner, before, outcome, self.policy, self.now)
        if check is not None:
            check(before, outcome, self)
        self._enact(outcome)
        return before, outcome

    def _end_runs(self) -> None:
        for job in sorted(self.planner.runs):
            run = self.planner.runs[job]
            if run.state in (JobState.STOPPING, JobState.SUSPENDING):
                if not self.slow_stops or self.now >= run.since + self.policy.grace_s:
                    self._leave(run)
            elif self.now >= run.running_at + run.ask.limit_s:
                self.planner.ended(job, now=self.now)

    def _leave(self, run: Run) -> None:
        self.planner.ended(run.job, now=self.now)
        if run.state is JobState.SUSPENDING:
            self.planner.submit(
                parked(run, now=self.now, ran_s=run.since - run.running_at, calm_until=self.calm.pop(run.job))
            )
        elif run.end_reason is EndReason.EVICT:
            self.planner.submit(requeued(run, now=self.now, outcome=Outcome.EVICTED, no_evict_s=self.policy.no_evict_s))

    def _enact(self, outcome) -> None:
        for stop in outcome.stops:
            if stop.job in self.planner.queue.asks:  # suspended for too long: its saved work is given up
                ask = self.planner.queue.asks[stop.job]
                self.planner.submit(replace(ask, pinned=(), suspended_at=0, restarts=ask.restarts + 1))
                continue
            run = self.planner.runs[stop.job]
            if stop.reason is EndReason.EVICT:
                self.evictions.append((self.now, stop.beneficiary, stop.job))
            stopping = replace(run, state=JobState.STOPPING, since=self.now, end_reason=stop.reason)
            self.planner.changed(stopping, now=self.now)
        for suspend in outcome.suspends:
            run = self.planner.runs[suspend.job]
            self.evictions.append((self.now, suspend.beneficiary, suspend.job))
            self.calm[suspend.job] = suspend.calm_until
            self.planner.changed(replace(run, state=JobState.SUSPENDING, since=self.now), now=self.now)
        for recut in outcome.recuts:
            gpu = next(g for g in node_of(self.planner, recut).gpus if g.id == recut.gpu)
            assert set(recut.destroy) <= set(gpu.layout)
            self.planner.recut(recut)
            gpu = next(g for g in node_of(self.planner, recut).gpus if g.id == recut.gpu)
            assert mig.legal(gpu.model, gpu.layout)
        for place in outcome.places:
            ask = self.planner.queue.asks.get(place.job)
            if ask is None:
                continue
            self.started.setdefault(place.job, self.now)
            run = Run(ask, place.parts, self.now, JobState.RUNNING, self.now, self.now, pool=place.pool)
            self.planner.started(run, now=self.now)
        for claim in outcome.claims:
            self.planner.claimed(claim, now=self.now)
        for credit in outcome.credits:
            self.planner.credited(credit, now=self.now)


def compare_with_cold(planner: Planner, before: Cluster, outcome: Plan, policy: Policy, now: int) -> None:
    """The warm planner's plan is the one that a new planner makes of the snapshot, and planning left no trace."""
    cold = plan(before, policy, now)
    for field in fields(Plan):
        warm, fresh = getattr(outcome, field.name), getattr(cold, field.name)
        assert warm == fresh, f"{field.name}: the warm plan has {warm}, the cold one {fresh}"
    assert planner.snapshot() == without_dead_claims(before, planner.snapshot()), "planning left a trace"


def without_dead_claims(before: Cluster, after: Cluster) -> Cluster:
    """The snapshot from before a plan, less the claims that the plan has let go, with their settled means."""
    return replace(before, claims=after.claims, past=after.past)


def node_of(planner: Planner, recut):
    return planner.ledger.hosts[recut.node].node
