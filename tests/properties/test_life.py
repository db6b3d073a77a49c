"""A state machine over the plan and the table of a job's life: whatever happens, and in whatever order, jobs are where
their state says, nothing is held twice, and the next plan keeps every invariant."""

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scheduling.core.cluster import Cluster, Outcome, Run, parked, requeued
from scheduling.core.lifecycle import FINAL, HOLDING, REASONS, EndReason, JobEvent, JobState, next_state
from scheduling.core.plan import Planner
from scheduling.core.units import GPU_UNITS
from tests.properties.test_plan_properties import everything
from tests.properties.toy import compare_with_cold
from tests.properties.worlds import POLICIES, asks, machines, quotas, team_trees

S, E, R = JobState, JobEvent, EndReason
PICK = st.integers(0, 1 << 16)


def having(*states):
    """The rule is offered only while a job is in one of these states: most random steps shall be steps."""
    return precondition(lambda self: any(state in states for state in self.state.values()))


class Life(RuleBasedStateMachine):
    """`state` is what a database would say of each job; the planner is told the same events."""

    check_plan = staticmethod(everything)

    @initialize(nodes=machines(mig=True), teams=team_trees(), policy=POLICIES)
    def build(self, nodes, teams, policy):
        self.begin(nodes, teams, policy)

    def begin(self, nodes, teams, policy):
        self.policy, self.now, self.teams, self.jobs = policy, 0, teams, 0
        self.planner = Planner(policy)
        self.planner.load(Cluster(nodes=nodes, teams=teams))
        self.state: dict[int, JobState] = {}
        self.reason: dict[int, EndReason] = {}
        self.calm: dict[int, int] = {}
        #: suspended jobs that are stopping: what they would go back to the queue with
        self.leaving = {}

    # ------------------------------------------------------------------------------------- what people do
    @rule(data=st.data(), count=st.integers(1, 6))
    def submit(self, data, count):
        for _ in range(count):
            self.jobs += 1
            self.queue(data.draw(asks(self.jobs, len(self.teams), mig=True)))

    @rule(pick=PICK)
    @precondition(lambda self: sum(state not in FINAL for state in self.state.values()) > 8)
    def cancel(self, pick):
        self.end(self.one(pick, *(set(S) - FINAL - {S.STOPPING})), R.CANCEL)

    @rule(data=st.data())
    def change_quotas(self, data):
        self.teams = tuple(replace(team, quotas=data.draw(quotas(("h100", "a100")))) for team in self.teams)
        self.planner.teams_changed(self.teams)

    @rule(pick=PICK)
    @precondition(lambda self: self.all_nodes_accept())
    def drain(self, pick):
        self.change_node(pick, accepts=False, draining=True)

    # ------------------------------------------------------------------------------------- what nodes report
    @rule()
    def nodes_are_back(self):
        for index in range(len(self.planner.ledger.hosts)):
            self.change_node(index, accepts=True, draining=False)

    @rule(pick=PICK)
    @precondition(lambda self: self.all_nodes_accept())
    def node_is_lost(self, pick):
        """It is fenced: what was there is stopped, and its parts come free with their release."""
        node = self.change_node(pick, accepts=False, draining=False)
        for job, run in sorted(self.planner.runs.items()):
            if any(part.node == node for part in run.parts) and run.state is not S.STOPPING:
                self.stop(job, R.NODE_LOST)
        for job, ask in sorted(self.planner.queue.asks.items()):
            if any(part.node == node for part in ask.pinned):
                self.stop(job, R.NODE_LOST)

    @rule()
    def all_goes_well(self):
        """Every node does what it was told: what is placed runs, what is to go is gone."""
        for job in sorted(self.state):
            self.launched(0, job)
            self.ready(0, job)
            self.suspended(0, job)
            self.released(0, job)

    @rule(pick=PICK)
    @having(S.PLACED)
    def launched(self, pick, only=0):
        self.move(self.one(pick, S.PLACED, only=only), E.LAUNCHED)

    @rule(pick=PICK)
    @having(S.STARTING, S.RESUMING)
    def ready(self, pick, only=0):
        job = self.one(pick, S.STARTING, S.RESUMING, only=only)
        if job:
            run = self.planner.runs[job]
            self.planner.changed(replace(run, running_at=run.running_at or self.now), now=self.now)
            self.move(job, E.READY)

    @rule(pick=PICK, reason=st.sampled_from(sorted(R)))
    @having(*HOLDING, S.SUSPENDED)
    def ends(self, pick, reason):
        """It exits, is refused, is idle, its card is sick …: whatever the table allows in its state."""
        able = [s for s in (*HOLDING, S.SUSPENDED) if reason in REASONS.get((s, E.STOP), ())]
        job = self.one(pick, *able)
        if job and reason is not R.EVICT:
            self.stop(job, reason)

    @rule(pick=PICK)
    @having(S.SUSPENDING)
    def suspended(self, pick, only=0):
        job = self.one(pick, S.SUSPENDING, only=only)
        if job:
            run = self.planner.runs[job]
            self.state[job] = next_state(run.state, E.SUSPENDED)
            self.planner.ended(job, now=self.now)
            ran_s = run.since - run.running_at
            self.planner.submit(parked(run, now=self.now, ran_s=ran_s, calm_until=self.calm.pop(job)))

    @rule(pick=PICK)
    @having(S.SUSPENDING)
    def refused(self, pick):
        """The node could not save it: notice, and back to the queue."""
        job = self.one(pick, S.SUSPENDING)
        if job:
            self.move(job, E.REFUSED)
            self.stop(job, R.EVICT)

    @rule(pick=PICK)
    @having(S.STOPPING)
    def released(self, pick, only=0):
        job = self.one(pick, S.STOPPING, only=only)
        if not job:
            return
        reason = self.reason.pop(job)
        self.state[job] = next_state(S.STOPPING, E.RELEASED, reason=reason, requeue=True)
        run = self.planner.runs.get(job)
        if run is not None:
            self.planner.ended(job, now=self.now)
            outcome = Outcome.EVICTED if reason is R.EVICT else Outcome.FAULT
            ask = requeued(run, now=self.now, outcome=outcome, no_evict_s=self.policy.no_evict_s)
        else:
            ask = self.leaving.pop(job)
        if self.state[job] is S.QUEUED:
            self.planner.submit(ask)

    # ------------------------------------------------------------------------------------- the scheduler
    @rule(seconds=st.sampled_from((0, 30, 200)))
    def tick_again(self, seconds):
        self.tick(seconds)

    @rule(seconds=st.sampled_from((0, 1, 30, 200, 1000, 15_000)))
    def tick(self, seconds):
        self.now += seconds
        before = self.planner.snapshot()
        outcome = self.planner.plan(self.now)
        compare_with_cold(self.planner, before, outcome, self.policy, self.now)
        self.check_plan(before, outcome, self)
        for stop in outcome.stops:
            self.stop(stop.job, stop.reason)
        for suspend in outcome.suspends:
            self.calm[suspend.job] = suspend.calm_until
            self.move(suspend.job, E.SUSPEND)
        for recut in outcome.recuts:
            self.planner.recut(recut)
        for place in outcome.places:
            state = next_state(self.state[place.job], E.PLACE)
            self.state[place.job] = state
            ask = self.planner.queue.asks[place.job]
            self.planner.started(Run(ask, place.parts, self.now, state, since=self.now, pool=place.pool), now=self.now)
        for claim in outcome.claims:
            self.planner.claimed(claim, now=self.now)
        for credit in outcome.credits:
            self.planner.credited(credit, now=self.now)

    # ------------------------------------------------------------------------------------- what must hold
    @invariant()
    def every_job_is_where_its_state_says(self):
        waiting, runs = self.planner.queue.asks, self.planner.runs
        for job, state in self.state.items():
            assert (job in waiting) == (state in (S.QUEUED, S.SUSPENDED)), (job, state)
            assert (job in runs) == (state in HOLDING and job not in self.leaving), (job, state)
            if job in runs:
                assert runs[job].state is state
                assert len(runs[job].parts) == runs[job].ask.shape.replicas
            if job in waiting:
                assert bool(waiting[job].pinned) == (state is S.SUSPENDED)

    @invariant()
    def nothing_is_held_twice(self):
        held: dict[int, int] = {}
        for run in self.planner.runs.values():
            for piece in (piece for part in run.parts for piece in part.pieces):
                held[piece.gpu] = held.get(piece.gpu, 0) + piece.units
        assert all(units <= GPU_UNITS for units in held.values())

    @invariant()
    def what_is_charged_is_what_is_held(self):
        used: dict[tuple[str, int], int] = {}
        for held in self.planner.held.values():
            used[held.pool, held.team] = used.get((held.pool, held.team), 0) + held.units - held.handed
        for pool, tree in self.planner.trees.items():
            for team, account in tree.accounts.items():
                assert account.direct == used.get((pool, team), 0)

    # ------------------------------------------------------------------------------------- the small steps
    def one(self, pick, *states, only=0):
        """One of the jobs in these states (or `only` this one), or 0."""
        able = sorted(job for job, state in self.state.items() if state in states and job == (only or job))
        return able[pick % len(able)] if able else 0

    def queue(self, ask):
        self.state[ask.job] = S.QUEUED
        self.planner.submit(replace(ask, submitted=self.now))

    def move(self, job, event):
        if job:
            self.state[job] = next_state(self.state[job], event)
            run = self.planner.runs[job]
            self.planner.changed(replace(run, state=self.state[job], since=self.now), now=self.now)

    def end(self, job, reason):
        """Out of the queue, or through STOPPING."""
        if not job:
            return
        if self.state[job] is S.QUEUED:
            self.state[job] = next_state(S.QUEUED, E.END, reason=reason)
            self.planner.withdraw(job)
        else:
            self.stop(job, reason)

    def stop(self, job, reason):
        self.state[job] = next_state(self.state[job], E.STOP, reason=reason)
        self.reason[job] = reason
        run = self.planner.runs.get(job)
        if run is not None:
            stopping = replace(run, state=S.STOPPING, since=self.now, end_reason=reason)
            self.planner.changed(stopping, now=self.now)
            return
        ask = self.planner.queue.asks[job]
        self.leaving[job] = replace(ask, pinned=(), suspended_at=0, restarts=ask.restarts + 1)
        self.planner.withdraw(job)

    def all_nodes_accept(self):
        return all(host.node.accepts for host in self.planner.ledger.hosts.values())

    def change_node(self, pick, **changes):
        hosts = sorted(self.planner.ledger.hosts)
        node = self.planner.ledger.hosts[hosts[pick % len(hosts)]].node
        self.planner.node_changed(replace(node, **changes))
        return node.id


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
