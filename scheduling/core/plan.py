"""plan(cluster, policy, now) -> Plan: who gets which place in this cycle, who must stop or be suspended, why others
wait.

Deterministic: the same snapshot gives the same plan, bit for bit. The same function serves the live loop, the
simulator, estimates, what-if questions and the replay of a dumped snapshot. The steps of a cycle can be said aloud:

    1. expire    every state has a time-out
    2. entitle   what each pool really has, who is owed what, what the calendar promises
    3. fulfil    jobs with a claim go to their place as soon as it is free
    4. walk      the queue in order; each job climbs the ladder alone: fits -> re-cut -> evict (or take a turn) ->
                 reserve -> hold
    5. explain   one cause for everybody who waits

Long because the ladder of one job is read from top to bottom.
"""

from dataclasses import replace

from scheduling.core.backfill import TimeMap
from scheduling.core.cluster import Ask, Claim, Cluster, Part
from scheduling.core.decisions import Cause, Hold, HoldCode, Place, Plan, Reserve, Stop, Suspend
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.core.minima import Minima
from scheduling.core.obstacles import Causes, capacity_cause, never_cause, rights_cause
from scheduling.core.ordering import Tournament
from scheduling.core.places.filters import Want
from scheduling.core.policy import Policy
from scheduling.core.preemption import Eviction
from scheduling.core.promises import Promise
from scheduling.core.queue import Entry, Kind
from scheduling.core.recuts import recuts_for
from scheduling.core.rights import missing_right
from scheduling.core.state import Held, State
from scheduling.core.windows import is_open, opens_at


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
        self._last_holds: dict[int, Hold] = {}
        super().__init__(policy)

    def plan(self, now: int) -> Plan:
        """Decide one cycle. The state stays as it was: what is decided comes back as events once it is done."""
        self.take_stock()
        for claim in list(self.claims.values()):
            if claim.job not in self.queue.asks or self._lost(claim, now):
                self.unclaimed(claim.job, now=now)
        cycle = Cycle(self, now)
        decided = cycle.decide()
        if not self.explain:
            return decided
        self._last_holds = cycle.holds(self._last_holds)
        return replace(decided, holds=tuple(self._last_holds.values()))

    def _lost(self, claim: Claim, now: int) -> bool:
        """Its time is over and its victims are still there. (Where they are gone, a late cycle fulfils it all the same:
        otherwise they would have fallen for nothing.)"""
        return claim.expires_at <= now and any(victim in self.runs for victim in claim.victims)


#: obstacles that have nothing to do with CPU and memory: they hold for every job of the same family
BINDS_ALL = frozenset({HoldCode.GPUS_BUSY, HoldCode.NO_NODES})


class Cycle:
    """One cycle under way: the decisions so far, on a state that is put back when all is decided."""

    def __init__(self, state: Planner, now: int) -> None:
        self.state, self.now, self.policy, self.causes = state, now, state.policy, state.causes
        self.stops: list[Stop] = []
        self.suspends: list[Suspend] = []
        self.places: list[Place] = []
        self.claims: list[Claim] = []
        self.reserves: list[Reserve] = []
        self.cause_of: dict[int, Cause] = {}
        self.done: set[int] = set()
        self.standing: list[tuple[Entry, Kind]] = []
        self._taken: list[int] = []
        self._reserved: dict[tuple[str, int], int] = {}
        self._no_fit: dict[tuple[object, ...], Minima] = {}
        self._why: dict[tuple[object, ...], Cause] = {}

    def decide(self) -> Plan:
        """The steps. Whatever they take from the state they give back at the end."""
        mark = self.state.ledger.checkpoint()
        self._expire()
        self._entitle()
        self._fulfil()
        self._walk()
        if self.state.explain:
            self.standing = self.tournament.standing()
        self.tournament.close()
        recuts = recuts_for(self.state, self.places)
        self._put_back(mark)
        return Plan(
            stops=tuple(self.stops),
            suspends=tuple(self.suspends),
            recuts=recuts,
            places=tuple(self.places),
            claims=tuple(self.claims),
            reserves=tuple(self.reserves),
        )

    # ---------------------------------------------------------------------------------------- 1. expire
    def _expire(self) -> None:
        """Nothing waits for ever for a machine that does not answer, and nothing runs past its limit."""
        now, policy = self.now, self.policy
        for job in sorted(self.state.runs):
            run = self.state.runs[job]
            if run.state is JobState.RUNNING:
                reason = EndReason.TIMED_OUT if now - run.running_at >= run.ask.limit_s else None
            elif run.state is JobState.STARTING:
                reason = EndReason.START_TIMEOUT if now - run.since >= policy.start_timeout_s else None
            elif run.state is JobState.PLACED:
                stalled = now - max(run.since, run.progress_at)
                reason = EndReason.PLACE_TIMEOUT if stalled >= policy.place_timeout_s else None
            else:
                continue
            if reason is not None:
                self.stops.append(Stop(job, run.ask.version, reason))
        for ask in self.state.queue.parked(now - policy.max_parked_s):
            self.stops.append(Stop(ask.job, ask.version, EndReason.PARKED_TOO_LONG))

    # ---------------------------------------------------------------------------------------- 2. entitle
    def _entitle(self) -> None:
        """What each pool really has, who is owed what, when everything ends, and what the calendar promises."""
        state, now = self.state, self.now
        state.take_stock()
        state.queue.begin(now, state.costs_of)
        ends = state.promises.ends
        ends.clear()
        for job, run in state.runs.items():
            ends[job] = run.ends_by(now)
        for job in state.claims:
            ends[job] = now + self.policy.grace_s + state.queue.asks[job].limit_s
        self._promise_calendar()
        state.ledger.begin_log()
        self.time_map = TimeMap(state.search, now)
        self.tournament = Tournament(state.queue, state.trees, now)
        self.eviction = Eviction(self)

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
                                host.node.memory_mib, teams=teams),
                    )  # fmt: skip

    # ---------------------------------------------------------------------------------------- 3. fulfil
    def _fulfil(self) -> None:
        """A claimed place is used as soon as its victims are gone; until then its job waits, and nobody else gets
        it."""
        for job, claim in sorted(self.state.claims.items()):
            ask = self.state.queue.asks[job]
            self.done.add(job)
            gone = sum(1 for victim in claim.victims if victim not in self.state.runs)
            if gone == len(claim.victims):
                self.places.append(Place(job, ask.version, claim.parts, claim.pool))
            else:
                self.cause_of[job] = self.causes.of(HoldCode.CLAIMED, stopping=len(claim.victims) - gone)

    # ---------------------------------------------------------------------------------------- 4. walk
    def _walk(self) -> None:
        """In the order of the tournament, each job alone on the ladder. What it takes, later jobs do not see."""
        closed = {
            team: self.causes.of(HoldCode.TEAM_WINDOW, opens=opens_at(known.windows, self.now))
            for team, known in self.state.teams.items()
            if not is_open(known.windows, self.now)
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
                cause = self._climb(ask, kind)
                if cause is not None:
                    self.cause_of[ask.job] = cause
            self.tournament.passed()

    def _climb(self, ask: Ask, kind: Kind) -> Cause | None:
        """The ladder of disruption for one job. None: it got its place; else why it goes on waiting."""
        if ask.not_before > self.now:
            return self.causes.of(HoldCode.NOT_BEFORE, starts=ask.not_before)
        if ask.pinned:
            return self._resume(ask, kind)
        lacking: list[tuple[str, int, HoldCode]] = []
        full: list[tuple[str, int, HoldCode | None]] = []
        for pool, units in self._in_order(kind):
            code = missing_right(self.state.trees[pool], ask, units)
            if code is None:
                if self._fits(ask, kind, pool, units):
                    return None
                full.append((pool, units, None))
            elif code is HoldCode.POOL_FULL:
                full.append((pool, units, code))
            else:
                lacking.append((pool, units, code))
        may_evict = kind.evicts and ask.may_evict_from <= self.now
        if may_evict:
            for pool, units, _ in (*full, *(lack for lack in lacking if lack[2] is HoldCode.TEAM_LIMIT)):
                claim = self.eviction.make_room(ask, kind, pool, units)
                if claim is not None:
                    return self._claim(claim)
            kind.evicts = self.eviction.rights.rotates(kind)  # turns depend on each job's own size
        if not full:
            pool, units, code = lacking[0]
            cause = rights_cause(self.causes, self.state, ask, pool, units, code)
            if code is not HoldCode.USER_LIMIT:
                self._bury(kind, 0, cause, may_evict=may_evict)
            return cause
        return self._reserve(ask, kind, full, may_evict=may_evict)

    def _bury(self, kind: Kind, limit_s: int, cause: Cause, *, may_evict: bool) -> None:
        """Nothing that comes after and is like this one can fare better. Where turns are taken, that holds for those
        behind it on its own line only; after a job that was not free to evict, it does not hold at all."""
        if not kind.evicts:
            kind.dead_from, kind.cause = min(kind.dead_from, limit_s), cause
            whole_family = cause.code in BINDS_ALL and self.eviction.nobody(kind)
            if whole_family:
                kind.family.dead_from, kind.family.cause = min(kind.family.dead_from, limit_s), cause
            self.tournament.buried(kind, family=whole_family)
        elif may_evict:
            kind.cause = cause
            self.tournament.bury(kind, limit_s)

    def _in_order(self, kind: Kind) -> list[tuple[str, int]]:
        """Pools in which it stays within its guarantee before those in which it would borrow, else as it likes them."""
        costs = kind.costs
        if len(costs) == 1:
            return list(costs)
        trees = self.state.trees
        return sorted(costs, key=lambda cost: not trees[cost[0]].account(kind.team).guarantees(cost[1]))

    def _fits(self, ask: Ask, kind: Kind, pool: str, units: int) -> bool:
        """Rung 1 and 2: free as it is, or after free parts of a card are cut anew."""
        failed = self._no_fit.setdefault(self._alike(ask, kind, pool), Minima())
        # While nothing is promised to anybody, it does not matter how long a job lasts.
        size = (ask.shape.cpu_millis, ask.shape.memory_mib, ask.limit_s if self.state.promises.hosts else 0)
        if failed.covers(size):
            return False
        want = Want(ask.job, ask.team, ask.shape, pool, self.now + ask.limit_s)
        parts = self.state.search.place(want)
        if parts is None:
            failed.add(size)
            return False
        self._place(ask, pool, units, parts)
        return True

    def _alike(self, ask: Ask, kind: Kind, pool: str) -> tuple[object, ...]:
        """Asks that differ in CPU, memory and limit only. Shares and booked nodes look at the team as well."""
        return (pool, ask.team if ask.shape.thousandths or self.state.bookings else 0, kind.family.form)

    def _place(self, ask: Ask, pool: str, units: int, parts: tuple[Part, ...]) -> None:
        """The ledger has the parts already: charge them and write the decision down."""
        state = self.state
        units = sum(state.units_of(part, pool) for part in parts)
        state.charge(ask.job, Held(pool, ask.team, ask.user, units, ask.preemptible))
        state.promises.ends[ask.job] = self.now + ask.limit_s
        self._taken.append(ask.job)
        self.eviction.rights.moved(pool, ask.team)
        self.done.add(ask.job)
        self.places.append(Place(ask.job, ask.version, parts, pool))

    def _resume(self, ask: Ask, kind: Kind) -> Cause | None:
        """A suspended job returns to its own cards or not at all."""
        pool = self.state.ledger.hosts[ask.pinned[0].node].node.pool
        units = sum(self.state.units_of(part, pool) for part in ask.pinned)
        code = missing_right(self.state.trees[pool], ask, units)
        if code is not None and code is not HoldCode.POOL_FULL:
            return rights_cause(self.causes, self.state, ask, pool, units, code)
        if code is not None or not self.state.search.is_free(ask.pinned, ask.team, self.now + ask.limit_s):
            may_evict = ask.may_evict_from <= self.now
            claim = self.eviction.return_to(ask, kind, pool, units) if may_evict else None
            return self.causes.of(HoldCode.PINNED) if claim is None else self._claim(claim)
        for part in ask.pinned:
            self.state.ledger.take(ask.job, part)
        self._place(ask, pool, units, ask.pinned)
        return None

    def _claim(self, claim: Claim) -> Cause:
        """Victims were found: they go, and the place is kept for its job."""
        self.claims.append(claim)
        self._taken.append(claim.job)
        self.done.add(claim.job)
        for victim in claim.victims:
            run = self.state.runs[victim]
            if self.eviction.candidates.can_suspend(run):
                self.suspends.append(Suspend(victim, run.ask.version, claim.job))
            else:
                self.stops.append(Stop(victim, run.ask.version, EndReason.EVICT, claim.job))
        return self.causes.of(HoldCode.CLAIMED, stopping=len(claim.victims))

    def _reserve(self, ask: Ask, kind: Kind, full: list[tuple[str, int, HoldCode | None]], *, may_evict: bool) -> Cause:
        """Blocked by capacity: the first few of each top-level team get a time and a place that nobody may move."""
        pool, units, code = full[0]
        want = Want(ask.job, ask.team, ask.shape, pool, self.now + ask.limit_s)
        top = self.state.trees[pool].account(ask.team).path()[0].team
        depth = self._reserved.get((pool, top), 0)
        if depth < self.policy.reserve_depth:
            for groups in self.state.search.options(ask.shape, pool):
                found = self.time_map.earliest(want, groups)
                if found is not None and found[0] > self.now:
                    at, parts = found
                    self._reserved[pool, top] = depth + 1
                    self.time_map.promise(ask.job, at, at + ask.limit_s, parts)
                    self.reserves.append(Reserve(ask.job, at, parts, pool))
                    return self._blocked(ask, kind, want)
        cause = self._blocked(ask, kind, want)
        if code is not None and cause.code is HoldCode.RESERVED:
            cause = rights_cause(self.causes, self.state, ask, pool, units, code)
        self._bury(kind, ask.limit_s if cause.code is HoldCode.RESERVED else 0, cause, may_evict=may_evict)
        return cause

    def _blocked(self, ask: Ask, kind: Kind, want: Want) -> Cause:
        """Would it fit if it were over in a moment? Then it is a reservation that it must not touch."""
        alike = self._alike(ask, kind, want.pool)
        known = self._why.get(alike) or self._why.get((*alike, ask.shape))
        if known is None:
            mark = self.state.ledger.checkpoint()
            fits = self.state.search.place(replace(want, until=self.now + 1)) is not None
            self.state.ledger.rollback(mark)
            if fits:
                return self.causes.of(HoldCode.RESERVED)
            known = capacity_cause(self.causes, self.state, want)
            binds_all = known.code in BINDS_ALL
            self._why[alike if binds_all else (*alike, ask.shape)] = known
        return known

    # ---------------------------------------------------------------------------------------- 5. explain
    def holds(self, last: dict[int, Hold]) -> dict[int, Hold]:
        """Everybody who goes on waiting, as they stand in the queue. The same wait for the same cause is the same Hold
        as the last time: a queue that stands still costs nothing to tell."""
        placed = {place.job for place in self.places}
        asks, cause_of = self.state.queue.asks, self.cause_of
        holds: dict[int, Hold] = {}
        for entry, kind in self.standing:
            job = entry[6]
            if job in placed:
                continue
            cause = cause_of.get(job) or kind.cause or kind.family.cause
            assert cause is not None, f"job {job} was never looked at"
            hold, version = last.get(job), asks[job].version
            same = hold is not None and hold.cause is cause and hold.version == version
            holds[job] = hold if hold is not None and same else Hold(job, version, cause)
        return holds

    def _put_back(self, mark: int) -> None:
        """The plan is made; the state waits for what really happens."""
        self.eviction.undo()
        decided: list[Place | Claim] = [*self.places, *self.claims]
        self.state.bounds.touch(part.node for decision in decided for part in decision.parts)
        for job in reversed(self._taken):
            self.state.discharge(job)
        self.state.ledger.rollback(mark)
        self.state.promises.clear()
        del self.eviction  # it knows this cycle: let both go at once, not when the garbage collector comes by
