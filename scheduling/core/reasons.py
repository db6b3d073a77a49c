"""Why each job goes on waiting: the dominant obstacle once the plan is carried out, so that every number is what its
reader finds when he looks at the cluster.

    rights      what its team, or its owner, may not have                                obstacles.py
    cards       no node has so many GPUs, or a part of one, free                         rooms.py
    size        beside them there is not enough CPU or memory; some replicas fit, not all; not close together
    time        there is room, but its limit reaches into what is booked, or kept for another job

While a plan is made, nodes only fill up and promises only grow, so what had no room at its turn has none now. Rights
may come back, though (a team whose work was evicted), and CPU that stayed with free GPUs: then the next cycle looks
again.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from scheduling.core.cluster import Ask, Part
from scheduling.core.decisions import Cause, HoldCode
from scheduling.core.obstacles import rights_cause
from scheduling.core.places.filters import Want
from scheduling.core.promises import NEVER, Promise
from scheduling.core.queue import Kind
from scheduling.core.rights import missing_right
from scheduling.core.rooms import Room, Rooms

if TYPE_CHECKING:
    from scheduling.core.plan import Cycle

#: (pools that it may use; None, or the cause that keeps it out of all whatever is free; does it matter whose job it is)
Open = tuple[tuple[str, ...], Cause | None, bool]


class Reasons:
    """Valid for one moment: nothing is decided any more. What holds for a whole kind is found once."""

    def __init__(self, cycle: "Cycle") -> None:
        self.state, self.causes, self.now = cycle.state, cycle.causes, cycle.now
        self.rooms = Rooms(self.state, self.causes, self.now)
        self._reserved = {reserve.job for reserve in cycle.reserves}
        self._open: dict[tuple[object, ...], Open] = {}
        self._of_kind: dict[Kind, Cause] = {}
        self._stops: dict[tuple[object, ...], tuple[int, Cause]] = {}

    def of(self, ask: Ask, kind: Kind) -> Cause:
        """The cause for one job that got no place."""
        if ask.not_before > self.now:
            return self.causes.of(HoldCode.NOT_BEFORE, starts=ask.not_before)
        known = self._of_kind.get(kind)
        if known is not None:
            return known
        if ask.pinned:
            return self._on_its_own(ask)
        pools, cause, capped = self._pools(ask, kind)
        if cause is None:
            room = self.rooms.of(kind, pools)
            cause = room.busy
            if cause is not None and cause.code is HoldCode.NO_NODES and len(pools) < len(kind.costs):
                cause = self._right_elsewhere(ask, kind, pools)
            elif cause is None or room.barred:
                self.state.promises.asks(ask.job, self.state.evictable_from(ask, self.now))
                cause = self.rooms.lack(ask, kind, room)
            if cause is None:
                return self._in_time(ask, kind, room)
        if not capped:
            self._of_kind[kind] = cause
        return cause

    # ---------------------------------------------------------------------------------------- rights
    def _pools(self, ask: Ask, kind: Kind) -> Open:
        key = (kind.team, kind.preemptible, kind.costs, 0)
        known = self._open.get(key)
        if known is not None and known[2]:
            key = (*key[:3], ask.user)
            known = self._open.get(key)
        if known is None:
            known = self._open[key] = self._pools_anew(ask, kind)
        return known

    def _pools_anew(self, ask: Ask, kind: Kind) -> Open:
        """Where everything is in use that may be handed around, the GPUs themselves are told first (`_in_time`)."""
        trees = self.state.trees
        capped = any(trees[pool].account(kind.team).is_capped() for pool, _ in kind.costs)
        codes = [(pool, units, missing_right(trees[pool], ask, units)) for pool, units in kind.costs]
        free = tuple(pool for pool, _, code in codes if code is None)
        full = tuple(pool for pool, _, code in codes if code is HoldCode.POOL_FULL)
        if free or full:
            return free or full, None, capped
        pool, units, code = codes[0]
        assert code is not None
        return (), rights_cause(self.causes, self.state, ask, pool, units, code), capped

    def _right_elsewhere(self, ask: Ask, kind: Kind, closed: tuple[str, ...]) -> Cause:
        """No node accepts work where it has the right: what it lacks in the first of the other pools."""
        pool, units = next(cost for cost in kind.costs if cost[0] not in closed)
        code = missing_right(self.state.trees[pool], ask, units)
        assert code is not None
        return rights_cause(self.causes, self.state, ask, pool, units, code)

    # ---------------------------------------------------------------------------------------- time
    def _in_time(self, ask: Ask, kind: Kind, room: Room) -> Cause:
        """There is room for a moment. What is it that comes before its limit is over?"""
        for pool, units in kind.costs:
            if pool in room.pools and missing_right(self.state.trees[pool], ask, units) is HoldCode.POOL_FULL:
                return rights_cause(self.causes, self.state, ask, pool, units, HoldCode.POOL_FULL)
        shape, promises = kind.shape, self.state.promises
        own = ask.job if ask.job in self._reserved else 0
        evictable = self.state.evictable_from(ask, self.now) if promises.parked else 0
        key = (id(room), shape.cpu_millis, shape.memory_mib, own, evictable)
        known = self._stops.get(key)
        if known is None:
            known = self._stops[key] = self._first_stop(ask, room)
        at, cause = known
        return cause if at < self.now + ask.limit_s else self.causes.of(HoldCode.NEXT)

    def _first_stop(self, ask: Ask, room: Room) -> tuple[int, Cause]:
        """(when, why) the place that it would have now must be left."""
        parts, booked = self.rooms.place_for_a_moment(ask, room)
        if booked:  # there is no other room than on nodes that are booked at this moment
            return self.now, self._promised(*booked)
        search = self.state.search

        def holds(until: int) -> bool:
            for pool in room.pools:
                want = Want(ask.job, ask.team, ask.shape, pool, until)
                if len(parts) == 1:
                    host = self.state.ledger.hosts[parts[0].node]
                    cards = room.cards_of(host)
                    if host.node.pool == pool and search.one_here(want, host, cards) is not None:
                        return True
                elif self.rooms.fits(want):
                    return True
            return False

        return self._first_of(ask, parts, holds)

    def _first_of(self, ask: Ask, parts: tuple[Part, ...], holds: Callable[[int], bool]) -> tuple[int, Cause]:
        """The first promise on these nodes beyond which the place does not hold."""
        promises = self.state.promises.hosts
        coming = [(p.starts, node, p) for node in sorted({part.node for part in parts}) for p in promises.get(node, ())]
        for starts, node, promise in sorted(coming, key=lambda entry: entry[:2]):
            if starts < self.now + ask.limit_s and not holds(max(self.now, starts) + 1):
                return starts, self._promised(node, promise)
        return NEVER, self.causes.of(HoldCode.NEXT)

    def _promised(self, node: int, promise: Promise) -> Cause:
        if not promise.booking:
            return self.causes.of(HoldCode.RESERVED, node=node, until=promise.starts)
        booking = next(booking for booking in self.state.bookings if booking.id == promise.booking)
        return self.causes.of(
            HoldCode.BOOKED, booking=booking.id, team=booking.team, node=node, starts=booking.starts, ends=booking.ends
        )

    # ---------------------------------------------------------------------------------------- suspended
    def _on_its_own(self, ask: Ask) -> Cause:
        """A suspended job returns to its own cards or not at all."""
        self.state.promises.asks(ask.job, self.state.evictable_from(ask, self.now))
        state, hosts = self.state, self.state.ledger.hosts
        for part in ask.pinned:
            host = hosts.get(part.node)
            if host is None or not host.node.accepts:
                return self.causes.of(HoldCode.PINNED, node=part.node)
        pool = hosts[ask.pinned[0].node].node.pool
        units = sum(state.units_of(part, pool) for part in ask.pinned)
        code = missing_right(state.trees[pool], ask, units)
        if code is not None and code is not HoldCode.POOL_FULL:
            return rights_cause(self.causes, state, ask, pool, units, code)
        for part in ask.pinned:
            host = hosts[part.node]
            places = [state.ledger.where[piece.gpu][1] for piece in part.pieces]
            taken = [place for place in places if not host.free >> place & 1]
            if taken:
                until = max(state.promises.cards_free_from(host)[place] for place in taken)
                return self.causes.of(
                    HoldCode.PINNED, node=part.node, gpus=len(places), busy=len(taken), until=until
                )  # fmt: skip
            if host.cpu < part.cpu_millis:
                return self.causes.of(
                    HoldCode.CPU_BUSY, cpu_millis=part.cpu_millis, node=part.node, free_cpu_millis=max(0, host.cpu)
                )
            if host.memory < part.memory_mib:
                return self.causes.of(
                    HoldCode.MEMORY_BUSY, memory_mib=part.memory_mib, node=part.node,
                    free_memory_mib=max(0, host.memory),
                )  # fmt: skip
        if code is HoldCode.POOL_FULL:
            return rights_cause(self.causes, state, ask, pool, units, code)
        at, cause = self._first_of(ask, ask.pinned, lambda until: state.search.is_free(ask.pinned, ask.team, until))
        return cause if at < self.now + ask.limit_s else self.causes.of(HoldCode.NEXT)
