"""The ladder of disruption for one job: the least disruptive rung on which it gets a place, or why it goes on waiting.

    fits -> re-cut -> evict (or take a turn) -> reserve -> hold

Each job climbs alone, in the order of the queue. What it takes or claims, later jobs do not see; what failed for it is
remembered for those that are like it.
"""

from dataclasses import replace
from enum import IntEnum
from itertools import groupby
from typing import TYPE_CHECKING

from scheduling.core.books import Held
from scheduling.core.cluster import Ask, Claim, Part, Shape, calm_until
from scheduling.core.decisions import HoldCode, Place, Reserve, Stop, Suspend
from scheduling.core.lifecycle import EndReason
from scheduling.core.minima import Minima
from scheduling.core.places.filters import Want, linked, merged
from scheduling.core.places.gangs import outward
from scheduling.core.queue import Kind
from scheduling.core.rights import missing_right

if TYPE_CHECKING:
    from scheduling.core.plan import Cycle


class Obstacle(IntEnum):
    """What a blocked job lacks, by how many others lack it too: those with such a limit or a longer one, all of its
    kind, or all of its family. What it is told is looked up when the plan is made (`reasons`)."""

    TIME = 1
    SIZE = 2
    CARDS = 3


class Ladder:
    """Climbed once per job; its decisions go into the lists of the cycle."""

    def __init__(self, cycle: "Cycle") -> None:
        self.cycle, self.state, self.now, self.policy = cycle, cycle.state, cycle.now, cycle.policy
        self.tournament, self.eviction = cycle.tournament, cycle.eviction
        #: jobs that hold something because of this plan
        self.taken: list[int] = []
        self._reserved: dict[tuple[str, int], int] = {}
        self._no_fit: dict[tuple[object, ...], Minima] = {}
        self._lacks: dict[tuple[object, ...], Obstacle] = {}
        self._would_fit: dict[tuple[object, ...], tuple[int, Shape]] = {}

    def climb(self, ask: Ask, kind: Kind) -> None:
        """The ladder of disruption for one job. What comes of it is in the cycle's lists."""
        self.state.promises.asks(ask.job, self.state.evictable_from(ask, self.now))
        if ask.not_before > self.now:
            return
        if ask.pinned:
            self._resume(ask, kind)
            return
        lacking: list[tuple[str, int, HoldCode]] = []
        full: list[tuple[str, int, HoldCode | None]] = []
        pools = self._in_order(kind)
        if ask.shape.preferred and self._fits_together(ask, kind, pools):
            return
        for pool, units in pools:
            code = missing_right(self.state.trees[pool], ask, units)
            if code is None:
                if self._fits(ask, kind, pool, units):
                    return
                full.append((pool, units, None))
            elif code is HoldCode.POOL_FULL:
                full.append((pool, units, code))
            else:
                lacking.append((pool, units, code))
        may_evict = kind.evicts and ask.may_evict_from <= self.now
        # Not where only its owner's own limit is in the way: another's job of the same kind may still find victims.
        where = (*full, *(lack for lack in lacking if lack[2] is HoldCode.TEAM_LIMIT)) if may_evict else ()
        for pool, units, code in where:
            claim = self.eviction.make_room(ask, kind, pool, units, limited=code is not None)
            if claim is not None:
                self._claim(claim)
                return
            may_evict = may_evict and not self.eviction.barred  # what keeps it from taking need not keep others
        if where and may_evict:
            kind.evicts = self.eviction.rights.rotates(kind)  # turns depend on each job's own size
        if full:
            self._reserve(ask, kind, full, may_evict=may_evict)
        elif lacking[0][2] is not HoldCode.USER_LIMIT:
            self._bury(kind, 0, may_evict=may_evict)

    def _bury(self, kind: Kind, limit_s: int, *, may_evict: bool, all_alike: bool = False) -> None:
        """Nothing that comes after and is like this one can fare better. Where turns are taken, that holds for those
        behind it on its own line only; after a job that was not free to evict, it does not hold at all."""
        if not kind.evicts:
            kind.dead_from = min(kind.dead_from, limit_s)
            whole_family = all_alike and self.eviction.nobody(kind)
            if whole_family:
                kind.family.dead_from = min(kind.family.dead_from, limit_s)
            self.tournament.buried(kind, family=whole_family)
        elif may_evict:
            self.tournament.bury(kind, limit_s)

    def _in_order(self, kind: Kind) -> list[tuple[str, int]]:
        """Pools in which it stays within its guarantee before those in which it would borrow, else as it likes them."""
        costs = kind.costs
        if len(costs) == 1:
            return list(costs)
        trees = self.state.trees
        return sorted(costs, key=lambda cost: not trees[cost[0]].account(kind.team).guarantees(cost[1]))

    def _fits_together(self, ask: Ask, kind: Kind, pools: list[tuple[str, int]]) -> bool:
        """The same two rungs for a job that prefers a level: one domain of it for all replicas in any pool and of any
        models, else one of the next wider level, at last anywhere. But nobody borrows for the sake of a domain what his
        guarantee gives him elsewhere: it could be taken back. Only free places are looked at, so it waits no longer for
        its preference; eviction and reservations ignore it."""
        trees = self.state.trees
        levels = (*outward(self.policy.levels, ask.shape), "")
        for _, alike in groupby(pools, lambda cost: trees[cost[0]].account(kind.team).guarantees(cost[1])):
            allowed = [(pool, units) for pool, units in alike if missing_right(trees[pool], ask, units) is None]
            if any(self._fits(ask, kind, pool, units, level) for level in levels for pool, units in allowed):
                return True
        return False

    def _fits(self, ask: Ask, kind: Kind, pool: str, units: int, level: str = "") -> bool:
        """Rung 1 and 2: free as it is, or after free parts of a card are cut anew. `level`: in one domain of it."""
        alike = self._alike(ask, kind, pool)
        failed = self._no_fit.setdefault((*alike, level) if level else alike, Minima())
        # While nothing is promised to anybody, it does not matter how long a job lasts.
        size = (ask.shape.cpu_millis, ask.shape.memory_mib, ask.limit_s if self.state.promises.hosts else 0)
        if failed.covers(size):
            return False
        shape = replace(ask.shape, required=level) if level else ask.shape
        parts = self.state.search.place(Want(ask.job, ask.team, shape, pool, self.now + ask.limit_s))
        if parts is None:
            failed.add(size)
            return False
        self._place(ask, pool, units, parts)
        return True

    def _alike(self, ask: Ask, kind: Kind, pool: str) -> tuple[object, ...]:
        """Asks that differ in CPU, memory and limit only. Shares and booked nodes look at the team as well, cards above
        suspended jobs at when it can be evicted."""
        team = ask.team if ask.shape.thousandths or self.state.bookings else 0
        evictable = self.state.evictable_from(ask, self.now) if self.state.promises.parked else 0
        return (pool, team, evictable, kind.family.form)

    def _place(self, ask: Ask, pool: str, units: int, parts: tuple[Part, ...]) -> None:
        """The ledger has the parts already: charge them and write the decision down."""
        state = self.state
        units = sum(state.units_of(part, pool) for part in parts)
        state.charge(ask.job, Held(pool, ask.team, ask.user, units, ask.preemptible))
        state.promises.ends[ask.job] = self.now + ask.limit_s
        self.taken.append(ask.job)
        self.eviction.rights.moved(pool, ask.team)
        self.cycle.done.add(ask.job)
        self.cycle.places.append(Place(ask.job, ask.version, parts, pool))

    def _resume(self, ask: Ask, kind: Kind) -> None:
        """A suspended job returns to its own cards or not at all."""
        pool = self.state.ledger.hosts[ask.pinned[0].node].node.pool
        units = sum(self.state.units_of(part, pool) for part in ask.pinned)
        code = missing_right(self.state.trees[pool], ask, units)
        if code is not None and code is not HoldCode.POOL_FULL:
            return
        if code is not None or not self.state.search.is_free(ask.pinned, ask.team, self.now + ask.limit_s):
            may_evict = ask.may_evict_from <= self.now
            claim = self.eviction.return_to(ask, kind, pool, units) if may_evict else None
            if claim is not None:
                self._claim(claim)
            return
        for part in ask.pinned:
            self.state.ledger.take(ask.job, part)
        self._place(ask, pool, units, ask.pinned)

    def _claim(self, claim: Claim) -> None:
        """Victims were found: they go, and the place is kept for its job."""
        self.cycle.claims.append(claim)
        self.taken.append(claim.job)
        self.cycle.done.add(claim.job)
        for victim in claim.victims:
            run = self.state.runs[victim]
            if victim in self.eviction.suspends:
                # It evicts nobody for as long as a stopped one; after its turn a job may take another one.
                calm = calm_until(run.ask, now=self.now, no_evict_s=self.policy.no_evict_s)
                calm = 0 if victim in self.eviction.turns else calm
                self.cycle.suspends.append(Suspend(victim, run.ask.version, claim.job, calm))
            else:
                self.cycle.stops.append(Stop(victim, run.ask.version, EndReason.EVICT, claim.job))
        self.cycle.is_claimed(claim.job, stopping=len(claim.victims))

    def _reserve(self, ask: Ask, kind: Kind, full: list[tuple[str, int, HoldCode | None]], *, may_evict: bool) -> None:
        """Blocked by capacity: the first few of each top-level team get a time and a place that nobody may move. The
        earliest of all pools and models that will do; ties go to what is liked better."""
        wants = [Want(ask.job, ask.team, ask.shape, pool, self.now + ask.limit_s) for pool, _, _ in full]
        best: tuple[int, tuple[Part, ...], Want, tuple[str, int]] | None = None
        for want in wants:
            line = (want.pool, self.state.trees[want.pool].account(ask.team).path()[0].team)
            if self._reserved.get(line, 0) >= self.policy.reserve_depth:
                continue
            for groups in self.state.search.options(ask.shape, want.pool):
                found = self.cycle.time_map.earliest(want, groups)
                if found is not None and found[0] > self.now and (best is None or found[0] < best[0]):
                    best = (*found, want, line)
        if best is not None:
            at, parts, want, line = best
            self._reserved[line] = self._reserved.get(line, 0) + 1
            self.cycle.time_map.promise(ask.job, at, at + ask.limit_s, parts)
            self.cycle.reserves.append(Reserve(ask.job, at, parts, want.pool))
            return
        # What is buried with it must fail in every pool: the obstacle that stops the fewest others.
        lacks = min(self._lacking(ask, kind, want, code) for want, (_, _, code) in zip(wants, full, strict=True))
        limit_s = ask.limit_s if lacks is Obstacle.TIME else 0
        self._bury(kind, limit_s, may_evict=may_evict, all_alike=lacks is Obstacle.CARDS)

    def _lacking(self, ask: Ask, kind: Kind, want: Want, code: HoldCode | None) -> Obstacle:
        """Would it fit if it were over in a moment? Then it is a reservation that it must not touch."""
        alike = self._alike(ask, kind, want.pool)
        known = self._lacks.get(alike) or self._lacks.get((*alike, ask.shape))
        if known is None:
            if self._fits_for_a_moment(want, alike):
                return Obstacle.TIME if code is None else Obstacle.SIZE
            known = Obstacle.SIZE if self._cards_are_free(want) else Obstacle.CARDS
            self._lacks[alike if known is Obstacle.CARDS else (*alike, ask.shape)] = known
        return known

    def _cards_are_free(self, want: Want) -> bool:
        """Has any node as many suitable cards free as one replica needs, whatever its CPU and memory?"""
        gpus, hosts = want.shape.gpus, self.state.ledger.hosts
        return not gpus or any(
            linked(group, hosts[host_id].free & cards, want.shape).bit_count() >= gpus
            for group, cards in merged(self.state.search.options(want.shape, want.pool))
            for count in range(gpus, group.size + 1)
            for host_id in group.buckets[count]
        )

    def _fits_for_a_moment(self, want: Want, alike: tuple[object, ...]) -> bool:
        """Tried on the ledger, unless nothing was taken since one that is alike and asked for as much did fit."""
        ledger, shape = self.state.ledger, want.shape
        changes, larger = self._would_fit.get(alike, (-1, shape))
        if changes == len(ledger.changes) and (
            shape == larger
            or (shape.replicas == 1 and shape.cpu_millis <= larger.cpu_millis and shape.memory_mib <= larger.memory_mib)
        ):
            return True
        mark = ledger.checkpoint()
        fits = self.state.search.place(replace(want, until=self.now + 1)) is not None
        ledger.rollback(mark)
        if fits:
            self._would_fit[alike] = len(ledger.changes), shape
        return fits
