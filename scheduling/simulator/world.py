"""Virtual time over the core's Planner: the same `plan` as in the live loop, with a trace for people and machines.

    arrive     a job of the trace is submitted
    end        a run has done its work, or has reached its limit
    released   an evicted run's grace is over
    turn       a run has had its turn, or reaches the next level of attained service: others may now take it over
    look       nothing happened, but the plan may differ now: a claim expires, a start is allowed, a booking ends
    again      the same, for what comes again and again: a minimum runtime is over, a team's hours begin or end

All that happens at one moment is told first; then one plan is made and carried out, and another if it freed something.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from scheduling.core.cluster import Ask, Outcome, Run, parked, requeued
from scheduling.core.decisions import Place, Plan
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.core.plan import Planner
from scheduling.core.policy import DAY, Policy
from scheduling.simulator.gauge import Gauge
from scheduling.simulator.history import History, Record
from scheduling.simulator.life import Life
from scheduling.simulator.looks import Looks
from scheduling.simulator.options import Limits, Options
from scheduling.simulator.outlook import Outlook
from scheduling.simulator.site import Site
from scheduling.simulator.traces.job import TraceJob
from scheduling.simulator.turns import Turns, units_of


class Stuck(Exception):
    """The plan goes on freeing and taking at one moment without end."""


_ROUNDS = 10_000
#: a trace may begin at 0, which means "never" in the core: its axis is moved by a week, so that days stay what they are
SHIFT_S = 7 * DAY
_ARRIVE, _END, _RELEASED, _TURN, _LOOK, _AGAIN = range(6)


Watch = Callable[[int, int, int], None]  #: time, jobs submitted, jobs ended


class World:
    def __init__(
        self, site: Site, policy: Policy, jobs: Iterable[TraceJob], options: Options, watch: Watch | None = None
    ) -> None:
        self.site, self.policy, self.options = site, policy, options
        self.planner = Planner(policy, explain=False)
        self.planner.load(site.cluster(shift_s=SHIFT_S))
        self.gauge = Gauge([node for node in site.nodes if node.accepts], options.sample_s)
        self.history = History(gpus=self.gauge.gpus)
        self._arrivals = iter(jobs)
        self._watch = watch
        self._lives: dict[int, Life] = {}
        self._waiting: set[int] = set()
        self._events: list[tuple[int, int, int, int]] = []
        self._next: TraceJob | None = None
        self._count = self._ended = self._ending = 0
        self._outlook, self._to_promise = Outlook(self.planner, policy), list[int]()
        self._turns = Turns(policy)
        self._looks = Looks(site.teams, policy, look_s=options.look_s)

    # ---------------------------------------------------------------------------------------- the clock
    def run(self) -> History:
        """Replay until nothing more can happen. Jobs that still wait then have no end in their record."""
        self._fetch()
        now = self._events[0][0] if self._events else 0
        for at in (at for booking in self.planner.bookings for at in (booking.starts, booking.ends) if at > now):
            heapq.heappush(self._events, (at, _LOOK, 0, 0))
        while self._events and (self._lives or self._next is not None):
            now = self._events[0][0]
            if not self.history.records:
                self.history.began = now - SHIFT_S
            self.gauge.advance(now - SHIFT_S, len(self._waiting))
            changed = False
            while self._events and self._events[0][0] == now:
                _, kind, job, attempt = heapq.heappop(self._events)
                changed |= self._happen(now, kind, job, attempt)
            if changed:
                self._decide(now)
            self._promise(now)
            if self._watch is not None:
                self._watch(now - SHIFT_S, self._count, self._ended)
        self.history.ended = max(0, now - SHIFT_S)
        self.gauge.finish(len(self._waiting))
        self.history.samples = self.gauge.samples
        return self.history

    def why_waiting(self) -> Counter[str]:
        """After the replay: the reasons for which jobs never started, each with how many."""
        return self._outlook.why_waiting(self.history.ended + SHIFT_S) if self._waiting else Counter()

    def _fetch(self) -> None:
        self._next = next(self._arrivals, None)
        if self._next is not None:
            heapq.heappush(self._events, (self._next.submit_s + SHIFT_S, _ARRIVE, 0, 0))

    def _happen(self, now: int, kind: int, job: int, attempt: int) -> bool:
        """Tell the planner. False: nothing has changed that could make another plan."""
        if kind == _AGAIN:
            return True
        self._looks.stirred(now)
        if kind == _LOOK:
            return True
        if kind == _ARRIVE:
            assert self._next is not None
            self._arrive(now, self._next)
            self._fetch()
            return True
        life = self._lives.get(job)
        if life is None or life.attempt != attempt:
            return False  # what was to happen to an earlier attempt
        if kind == _END:
            self._end(now, life)
        elif kind == _RELEASED:
            self._requeue(now, life)
        elif kind == _TURN:
            self._next_turn(now, life)
            assert life.run is not None
            asks = (self._lives[number].ask for number in self._waiting)
            return self._turns.wanted(life.run, self.planner.queue, now, filter(None, asks))
        return True

    # ---------------------------------------------------------------------------------------- what happens to a job
    def _arrive(self, now: int, job: TraceJob) -> None:
        self._count += 1
        ask = self.site.ask(
            job,
            self._count,
            limit_s=self.options.limit_of(job),
            suspendable=self.options.may_suspend(job),
            tier=self.options.tier_of(job, self.policy),
            shift_s=SHIFT_S,
        )
        record = Record(job=job, number=self._count, team=ask.team)
        if ask.deadline:  # weighed as at a submit of the live loop: what is not accepted orders nothing
            record.deadline_accepted = self._outlook.accepts(ask, now)
            ask = ask if record.deadline_accepted else replace(ask, deadline=0)
        self.history.records.append(record)
        self._lives[self._count] = Life(record=record, left_s=job.duration_s)
        if self.gauge.saw(ask.shape):
            self.planner.mixed(self.gauge.mix.counted())
        self._submit(ask)
        if self.options.promise_every and self._count % self.options.promise_every == 0:
            self._to_promise.append(self._count)
        if ask.not_before > ask.submitted:
            heapq.heappush(self._events, (ask.not_before, _LOOK, 0, 0))
        self._looks.hold(ask.min_runtime_s)
        if ask.suspendable and self._turns.taken and not self.policy.keeps_work:
            self._looks.restless = True

    def _submit(self, ask: Ask) -> None:
        self._waiting.add(ask.job)
        self._lives[ask.job].ask = ask
        self.planner.submit(ask)

    def _start(self, now: int, place: Place) -> None:
        life = self._lives[place.job]
        assert life.ask is not None
        life.run = Run(
            ask=life.ask, parts=place.parts, held_at=now, state=JobState.RUNNING, running_at=now,
            since=now, progress_at=now, pool=place.pool,
        )  # fmt: skip
        self.planner.started(life.run, now=now)
        self._waiting.discard(place.job)
        self.gauge.take(life.record.team, place.parts)
        life.record.units = units_of(place.parts)
        life.attempt += 1
        if life.record.first_start is None:
            life.record.first_start = now - SHIFT_S
        lasts = life.ask.limit_s if life.left_s is None else min(life.left_s, life.ask.limit_s)
        life.ends = life.left_s is not None or (
            self.options.limits is not Limits.UNKNOWN and life.record.job.limit_s is not None
        )
        self._ending += life.ends
        if life.ends:
            heapq.heappush(self._events, (now + lasts, _END, place.job, life.attempt))
        if self._turns.taken and life.run.ask.suspendable:
            self._next_turn(now, life)

    def _next_turn(self, now: int, life: Life) -> None:
        assert life.run is not None
        turn = self._turns.next_of(life.run, self.planner.queue, now)
        if turn is not None:
            heapq.heappush(self._events, (turn, _TURN, life.run.job, life.attempt))

    def _stop(self, now: int, life: Life) -> Run:
        """Take its GPUs away; what it did since its last start is added to what it has run."""
        run = life.run
        assert run is not None
        self.planner.ended(run.job, now=now)
        self.gauge.take(life.record.team, run.parts, -1)
        life.ran_s += now - run.held_at
        if life.left_s is not None:
            life.left_s -= now - run.held_at
        self._ending -= life.ends
        life.run, life.ends = None, False
        life.attempt += 1
        return run

    def _end(self, now: int, life: Life) -> None:
        run = self._stop(now, life)
        self._outlook.ended(run, now - run.held_at)
        self._ended += 1
        life.record.end = now - SHIFT_S
        life.record.timed_out = bool(life.left_s is not None and life.left_s > 0)
        del self._lives[life.record.number]

    def _suspend(self, now: int, life: Life, calm_until: int) -> None:
        """Its work is kept: what its limit leaves is less by what it ran, and more by what this costs."""
        run = self._stop(now, life)
        ran = now - run.held_at
        life.record.suspensions += 1
        pinned = not self.policy.keeps_work
        ask = parked(run, now=now, ran_s=ran, calm_until=calm_until, pinned=pinned)
        spent = 0 if self.options.cost_s else self.policy.suspend_cost_s(run.ask.saved_mib)
        ask = replace(ask, limit_s=max(1, run.ask.limit_s - ran + life.charge(self.options, spent)))
        if calm_until > now:
            heapq.heappush(self._events, (calm_until, _LOOK, 0, 0))
        if pinned:
            heapq.heappush(self._events, (now + self.policy.max_parked_s, _LOOK, 0, 0))
        self._submit(ask)

    def _requeue(self, now: int, life: Life) -> None:
        """The run so far is lost: it starts from the beginning."""
        run = self._stop(now, life)
        ask = requeued(run, now=now, outcome=Outcome.EVICTED, no_evict_s=self.policy.no_evict_s)
        self._submit(replace(ask, limit_s=life.lose_run(self.options)))
        heapq.heappush(self._events, (ask.may_evict_from, _LOOK, 0, 0))

    def _promise(self, now: int) -> None:
        """Tell those who have just come, and do not start at once, when they will."""
        waiting = [number for number in self._to_promise if self._lives[number].run is None]
        starts = self._outlook.starts(now) if waiting else {}
        for number in waiting:
            self._lives[number].record.promised = starts[number] - SHIFT_S if number in starts else None
        self._to_promise.clear()

    # ---------------------------------------------------------------------------------------- decide and carry out
    def _decide(self, now: int) -> None:
        for _ in range(_ROUNDS):
            if not self._waiting:
                return
            plan = self.planner.plan(now)
            self.history.plans += 1
            if not self._carry_out(now, plan):
                break
        else:
            raise Stuck(f"at {now} the plan frees and takes without end")
        if self._waiting:
            more, running = self._next is not None or self._ending > 0, len(self._lives) > len(self._waiting)
            for at in self._looks.after(now, more=more, running=running):
                heapq.heappush(self._events, (at, _AGAIN, 0, 0))

    def _carry_out(self, now: int, plan: Plan) -> bool:
        """True if something became free at once, so that another plan may place more."""
        for cut in plan.recuts:
            self.planner.recut(cut)
        for place in plan.places:
            self._start(now, place)
        for claim in plan.claims:
            self.planner.claimed(claim, now=now)
            heapq.heappush(self._events, (claim.expires_at, _LOOK, 0, 0))
        for credit in plan.credits:
            self.planner.credited(credit, now=now)
        freed = False
        for suspend in plan.suspends:
            self._suspend(now, self._lives[suspend.job], suspend.calm_until)
            freed = True
        for stop in plan.stops:
            freed |= self._obey(now, self._lives[stop.job], stop.reason)
        return freed

    def _obey(self, now: int, life: Life, reason: EndReason) -> bool:
        if life.run is None:  # suspended for too long: what it saved is given up
            assert life.ask is not None
            limit_s, restarts = life.lose_run(self.options), life.ask.restarts + 1
            self._submit(replace(life.ask, pinned=(), suspended_at=0, attained=0, restarts=restarts, limit_s=limit_s))
            return True
        if reason is not EndReason.EVICT:
            self._end(now, life)
            return True
        if self.policy.grace_s:
            life.attempt += 1  # its own end no longer counts
            life.run = replace(life.run, state=JobState.STOPPING, since=now, end_reason=reason)
            self.planner.changed(life.run, now=now)
            heapq.heappush(self._events, (now + self.policy.grace_s, _RELEASED, life.record.number, life.attempt))
            return False
        self._requeue(now, life)
        return True
