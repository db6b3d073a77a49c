"""plan(cluster, policy, now) -> Plan: who gets which place in this cycle, who must stop or be suspended, why others
wait.

Deterministic: the same snapshot gives the same plan, bit for bit. The same function serves the live loop, the
simulator, estimates, what-if questions and the replay of a dumped snapshot. The steps of a cycle can be said aloud:

    1. expire    every state has a time-out
    2. entitle   what each pool really has, who is owed what, what the calendar promises
    3. fulfil    jobs with a claim go to their place as soon as it is free
    4. walk      the queue in order; each job climbs the ladder alone: fits -> re-cut -> evict (or take a turn) ->
                 reserve -> hold
    5. explain   one cause for everybody who goes on waiting, as things stand once all this is done
"""

from dataclasses import replace

from scheduling.core.backfill import TimeMap
from scheduling.core.cluster import Ask, Claim, Cluster, Part
from scheduling.core.collector import collector_paused
from scheduling.core.decisions import Cause, Credit, Hold, HoldCode, Place, Plan, Reserve, Stop, Suspend
from scheduling.core.ladder import Ladder
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.core.obstacles import Causes, never_cause
from scheduling.core.ordering import Tournament
from scheduling.core.policy import Policy
from scheduling.core.preemption import Eviction
from scheduling.core.promises import Promise
from scheduling.core.queue import Kind, Pair
from scheduling.core.reasons import Reasons
from scheduling.core.recuts import recuts_for
from scheduling.core.state import State
from scheduling.core.windows import all_open_at, windows_of


def plan(cluster: Cluster, policy: Policy, now: int, *, explain: bool = True) -> Plan:
    """Decide one cycle on a snapshot: a Planner used once. `explain=False` leaves out the holds."""
    planner = Planner(policy, explain=explain)
    planner.load(cluster)
    return planner.plan(now)


class Planner(State):
    """The snapshot kept warm: told what changed, it plans exactly what a cold plan on `snapshot()` would."""

    def __init__(self, policy: Policy, *, explain: bool = True) -> None:
        self.explain = explain
        self.causes = Causes()
        self.last_holds: dict[int, Hold] = {}
        super().__init__(policy)

    def load(self, cluster: Cluster) -> None:
        """Start from a snapshot. The garbage collector waits."""
        self.last_holds.clear()
        with collector_paused():
            super().load(cluster)

    def submit(self, ask: Ask) -> None:
        """As `State` says. It is told anew why it waits: its version may be another."""
        self.last_holds.pop(ask.job, None)
        super().submit(ask)

    def plan(self, now: int) -> Plan:
        """Decide one cycle. The state stays as it was: what is decided comes back as events once it is done. The
        garbage collector waits."""
        with collector_paused():
            return self._plan(now)

    def _plan(self, now: int) -> Plan:
        self.take_stock()
        for claim in list(self.claims.values()):
            if claim.job not in self.queue.asks or self._lost(claim, now):
                self.unclaimed(claim.job, now=now)
        cycle = Cycle(self, now)
        decided = cycle.decide()
        self.last_holds = cycle.holds
        return replace(decided, holds=tuple(cycle.holds.values())) if self.explain else decided

    def _lost(self, claim: Claim, now: int) -> bool:
        """Its time is over and its victims are still there. (Where they are gone, a late cycle fulfils it all the same:
        otherwise they would have fallen for nothing.)"""
        return claim.expires_at <= now and any(victim in self.runs for victim in claim.victims)


class Cycle:
    """One cycle under way: the decisions so far, on a state that is put back when all is decided."""

    def __init__(self, state: Planner, now: int) -> None:
        self.state, self.now, self.policy, self.causes = state, now, state.policy, state.causes
        self.stops: list[Stop] = []
        self.suspends: list[Suspend] = []
        self.places: list[Place] = []
        self.claims: list[Claim] = []
        self.credits: list[Credit] = []
        self.reserves: list[Reserve] = []
        self.cause_of: dict[int, Cause] = {}
        self.done: set[int] = set()
        self.holds: dict[int, Hold] = {}

    def decide(self) -> Plan:
        """The steps. Whatever they take from the state they give back at the end."""
        mark = self.state.ledger.checkpoint()
        self._expire()
        self._entitle()
        self._fulfil()
        self._walk()
        if self.state.explain:
            self._explain(self.tournament.standing())
        self.tournament.close()
        recuts = recuts_for(self.state, self.places)
        self._put_back(mark)
        return Plan(
            stops=tuple(self.stops),
            suspends=tuple(self.suspends),
            recuts=recuts,
            places=tuple(self.places),
            claims=tuple(self.claims),
            credits=tuple(self.credits),
            reserves=tuple(self.reserves),
        )

    # ---------------------------------------------------------------------------------------- 1. expire
    def _expire(self) -> None:
        """Nothing waits for ever for a machine that does not answer, and nothing runs past its limit."""
        now, policy = self.now, self.policy
        for job, run in self.state.runs.items():
            if run.state is JobState.RUNNING:
                reason = EndReason.TIMED_OUT if now - run.running_at >= run.ask.limit_s else None
            elif run.state is JobState.STARTING:
                reason = EndReason.START_TIMEOUT if now - run.since >= policy.start_timeout_s else None
            elif run.state is JobState.PLACED:
                stalled = now - max(run.since, run.progress_at)
                reason = EndReason.PLACE_TIMEOUT if stalled >= policy.place_timeout_s else None
            elif run.state is JobState.SUSPENDING:
                longest = policy.grace_s + policy.suspend_s(run.ask.saved_mib) + policy.claim_slack_s
                reason = EndReason.EVICT if now - run.since >= longest else None
            elif run.state is JobState.RESUMING:
                longest = policy.start_timeout_s + policy.resume_s(run.ask.saved_mib)
                reason = EndReason.RESUME_FAILED if now - run.since >= longest else None
            else:
                continue
            if reason is not None:
                self.stops.append(Stop(job, run.ask.version, reason))
        self.stops.sort(key=lambda stop: stop.job)
        for job in sorted(self.state.queue.pinned):
            ask = self.state.queue.asks[job]
            if ask.suspended_at <= now - policy.max_parked_s or self._drains(ask):
                self.stops.append(Stop(job, ask.version, EndReason.PARKED_TOO_LONG))
                self.cause_of[job] = self.causes.of(
                    HoldCode.PINNED, suspended=ask.suspended_at, node=ask.pinned[0].node
                )
                self.done.add(job)

    def _drains(self, ask: Ask) -> bool:
        """Does a node empty itself on which this job is suspended? What is merely silent may come back."""
        hosts = [self.state.ledger.hosts.get(part.node) for part in ask.pinned]
        return any(host is None or host.node.draining for host in hosts)

    # ---------------------------------------------------------------------------------------- 2. entitle
    def _entitle(self) -> None:
        """What each pool really has, who is owed what, when everything ends, and what the calendar promises."""
        state, now = self.state, self.now
        state.take_stock()
        state.queue.begin(now, state.costs_of)
        ends = {job: run.ends_by(now) for job, run in state.runs.items()}
        for job in state.claims:
            ends[job] = now + self.policy.grace_s + state.queue.asks[job].limit_s
        state.promises.expect(ends, self._parts_of)
        for job in state.saved:
            state.promises.ends[-job] = self._parked_until(job)
        self._promise_calendar()
        self._promise_parked()
        state.ledger.begin_log()
        self.time_map = TimeMap(state.search, now)
        self.tournament = Tournament(state.queue, state.trees, now)
        self.eviction = Eviction(self)
        self.ladder = Ladder(self)

    def _parts_of(self, job: int) -> tuple[Part, ...]:
        """What a run or a claim holds."""
        claim = self.state.claims.get(job)
        return claim.parts if claim is not None else self.state.runs[job].parts

    def _promise_calendar(self) -> None:
        """A booked node is its team's from start to end; the teams below share it."""
        self.state.promises.clear()
        for booking in self.state.bookings:
            if booking.ends <= self.now:
                continue
            teams = frozenset(
                team for team in self.state.teams
                if booking.team in {a.team for tree in self.state.trees.values() for a in tree.account(team).path()}
            )  # fmt: skip
            for node in booking.nodes:
                host = self.state.ledger.hosts.get(node)
                if host is not None:
                    self.state.promises.add(
                        node,
                        Promise(booking.starts, booking.ends, host.all, host.node.cpu_millis,
                                host.node.memory_mib, teams=teams, booking=booking.id),
                    )  # fmt: skip

    def _parked_until(self, job: int) -> int:
        """When a suspended job is given up, and its memory with it."""
        ask = self.state.queue.asks.get(job)
        return (ask.suspended_at if ask is not None else self.now) + self.policy.max_parked_s

    def _promise_parked(self) -> None:
        """The cards above a suspended job go only to work that ends, or can be evicted, before the job is given up."""
        for job in sorted(self.state.queue.pinned):
            until = self._parked_until(job)
            if until <= self.now:
                continue
            for part in self.state.queue.asks[job].pinned:
                places = [self.state.ledger.where.get(piece.gpu) for piece in part.pieces]
                cards = sum(1 << where[1] for where in places if where is not None)
                self.state.promises.add(part.node, Promise(until, until + 1, cards, 0, 0, job=job, parked=True))

    # ---------------------------------------------------------------------------------------- 3. fulfil
    def _fulfil(self) -> None:
        """A claimed place is used as soon as its victims are gone; until then its job waits, and nobody else gets
        it."""
        for job, claim in sorted(self.state.claims.items()):
            ask = self.state.queue.asks[job]
            if job in self.done:  # suspended for too long: it leaves, and its claim with it
                continue
            self.done.add(job)
            gone = sum(1 for victim in claim.victims if victim not in self.state.runs)
            if gone == len(claim.victims):
                self.places.append(Place(job, ask.version, claim.parts, claim.pool))
            else:
                self.is_claimed(job, stopping=len(claim.victims) - gone)

    def is_claimed(self, job: int, *, stopping: int) -> None:
        """A job waits for so many others to leave the place that is kept for it."""
        self.cause_of[job] = self.causes.of(HoldCode.CLAIMED, stopping=stopping)

    # ---------------------------------------------------------------------------------------- 4. walk
    def _walk(self) -> None:
        """In the order of the tournament, each job alone on the ladder. What it takes, later jobs do not see."""
        closed = {
            team: self.causes.of(HoldCode.TEAM_WINDOW, opens=opens)
            for team in self.state.teams
            if (opens := all_open_at(windows_of(team, self.state.teams), self.now)) > self.now
        }
        asks = self.state.queue.asks
        for kind in self.state.queue.kinds.values():
            if kind.team in closed:
                kind.dead_from, kind.cause = 0, closed[kind.team]
            elif not kind.costs:
                kind.dead_from, kind.cause = 0, never_cause(self.causes, self.state, kind.shape)
        for team in sorted(self.state.queue.rows):
            self.tournament.enter(team)
        self.tournament.begin()
        while (champion := self.tournament.next()) is not None:
            entry, kind = champion
            ask = asks[entry[6]]
            if ask.job not in self.done:
                self.ladder.climb(ask, kind)
            if self.is_decided(ask, kind):
                break
            self.tournament.passed()

    def is_decided(self, ask: Ask, kind: Kind) -> bool:
        """This job has had its turn: need nobody else be looked at? (A plan looks at all; see `probing`.)"""
        return False

    # ---------------------------------------------------------------------------------------- 5. explain
    def _explain(self, standing: list[Pair]) -> None:
        """Everybody who goes on waiting, as they stand in the queue, for what stands in their way once this plan is
        carried out. The same wait for the same cause is the same Hold as the last time: a queue that stands still costs
        little to tell. (The last holds know no job that was submitted since.)"""
        self.causes.begin()
        placed = {place.job for place in self.places}
        asks, cause_of, last = self.state.queue.asks, self.cause_of, self.state.last_holds
        reasons = Reasons(self)
        for entry, kind in standing:
            job = entry[6]
            if job in placed:
                continue
            cause = cause_of.get(job) or kind.cause or reasons.of(asks[job], kind)
            hold = last.get(job)
            if hold is None or hold.cause is not cause:
                hold = Hold(job, asks[job].version, cause)
            self.holds[job] = hold

    def _put_back(self, mark: int) -> None:
        """The plan is made; the state waits for what really happens."""
        self.eviction.undo()
        decided: list[Place | Claim] = [*self.places, *self.claims]
        self.state.bounds.touch(part.node for decision in decided for part in decision.parts)
        for job in reversed(self.ladder.taken):
            self.state.discharge(job)
        self.state.ledger.rollback(mark)
        self.state.promises.clear()
        del self.ladder, self.eviction  # they know this cycle: all go at once, not when the garbage collector comes by
