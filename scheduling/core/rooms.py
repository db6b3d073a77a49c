"""What the nodes have left for one kind of job at this moment, and what of it is too little: GPUs or parts of them,
then CPU, then memory, then the same for all replicas together.

Nodes that a team has booked for this moment count for nobody else; whatever is promised for later does not count yet.
"""

from collections.abc import Iterator

from scheduling.core.cluster import Ask, Part
from scheduling.core.decisions import Cause, HoldCode
from scheduling.core.ledger import Host
from scheduling.core.obstacles import Causes
from scheduling.core.places.filters import ISLAND, NODE, Offer, Options, Want, by_island, linked
from scheduling.core.places.gangs import capacities, domain_of
from scheduling.core.promises import Promise
from scheduling.core.queue import Kind
from scheduling.core.slices import Slices
from scheduling.core.state import State


class Room:
    """What there is for jobs that differ in CPU, memory and limit only. `busy`: the cause where no node has the cards;
    else `sides` are the (CPU, memory) of each node that has. `barred`: some node is booked for others now. `fits`:
    (CPU, memory, a place for so much); `booked`: by (CPU, memory), the node and the promise that keep it out."""

    __slots__ = ("barred", "booked", "busy", "fits", "lacks", "options", "pools", "sides")

    def __init__(self, options: tuple[tuple[str, Options], ...]) -> None:
        self.options = options
        self.pools = tuple(pool for pool, _ in options)
        self.busy: Cause | None = None
        self.barred = False
        self.sides: list[tuple[int, int]] = []
        self.lacks: dict[tuple[int, int], Cause | None] = {}
        self.fits: list[tuple[int, int, tuple[Part, ...]]] = []
        self.booked: dict[tuple[int, int], tuple[int, Promise]] = {}

    def groups(self) -> Options:
        """Those of all its pools."""
        return [option for _, options in self.options for option in options]

    def cards_of(self, host: Host) -> int:
        """The suitable cards of a node, as bits."""
        return next((cards for group, cards in self.groups() if group is host.group), 0)


class Rooms:
    """Found once for all that ask alike. Valid while nothing is taken or given."""

    def __init__(self, state: State, causes: Causes, now: int) -> None:
        self.state, self.causes, self.now = state, causes, now
        self.ledger, self.search, self.promises = state.ledger, state.search, state.promises
        self._rooms: dict[tuple[Offer, int], Room] = {}
        self._slices = Slices(state, causes)
        self._booked_now = any(booking.starts <= now < booking.ends for booking in state.bookings)

    def of(self, kind: Kind, pools: tuple[str, ...]) -> Room:
        """What there is for this kind in these pools."""
        offer = kind.offers.get(pools)
        if offer is None:
            offer = kind.offers[pools] = self.search.offer(kind.shape, kind.family.form, pools)
        key = (offer, kind.team if kind.shape.thousandths or self.state.bookings else 0)
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = Room(offer.options)
            self._furnish(room, kind)
        return room

    def lack(self, ask: Ask, kind: Kind, room: Room) -> Cause | None:
        """What is too little for it now; None: it would fit for a moment, on nodes that are booked if nowhere else."""
        size = (kind.shape.cpu_millis, kind.shape.memory_mib)
        if size not in room.lacks:
            cause = room.busy or self._size(ask, kind, room)
            if cause is not None and room.barred and self._but_for_bookings(ask, room):
                cause = None
            room.lacks[size] = cause
        return room.lacks[size]

    def place_for_a_moment(self, ask: Ask, room: Room) -> tuple[tuple[Part, ...], tuple[int, Promise] | None]:
        """Where it would fit now; or, where only a booking of this moment keeps it out, (the node, that promise)."""
        shape = ask.shape
        if shape.replicas == 1:
            for cpu, memory, parts in room.fits:
                if shape.cpu_millis <= cpu and shape.memory_mib <= memory:
                    return parts, None
        booked = room.booked.get((shape.cpu_millis, shape.memory_mib))
        if booked is not None:
            return (), booked
        for pool in room.pools:
            found = self._place(Want(ask.job, ask.team, shape, pool, self.now + 1))
            if found is not None:
                room.fits.append((shape.cpu_millis, shape.memory_mib, found))
                return found, None
        return (), None

    def fits(self, want: Want) -> bool:
        """Is there a place for it? Nothing is taken."""
        return self._place(want) is not None

    def _place(self, want: Want) -> tuple[Part, ...] | None:
        mark = self.ledger.checkpoint()
        found = self.search.place(want)
        self.ledger.rollback(mark)
        return found

    # ---------------------------------------------------------------------------------------- bookings
    def _bar(self, host: Host, team: int) -> Promise | None:
        """The booking that keeps this team off the node at this moment."""
        if not self._booked_now:
            return None
        for promise in self.promises.hosts.get(host.id, ()):
            if promise.booking and promise.starts <= self.now and team not in promise.teams:
                return promise
        return None

    def _but_for_bookings(self, ask: Ask, room: Room) -> bool:
        """Would it fit now if nobody had booked anything? Then it is told which booking keeps it out."""
        self.promises.without_bookings = True
        places = (self._place(Want(ask.job, ask.team, ask.shape, pool, self.now + 1)) for pool in room.pools)
        found = next((parts for parts in places if parts is not None), ())
        self.promises.without_bookings = False
        for part in found:
            bar = self._bar(self.ledger.hosts[part.node], ask.team)
            if bar is not None:
                room.booked[ask.shape.cpu_millis, ask.shape.memory_mib] = part.node, bar
                return True
        return False

    # ---------------------------------------------------------------------------------------- one replica
    def _open(self, room: Room, team: int, fewest: int = 0) -> Iterator[tuple[Host, int]]:
        """Nodes that accept work and are not booked for others now, with at least so many free cards, the fullest of
        them first; each with its suitable cards."""
        for group, cards in room.groups():
            for count in range(group.size, fewest - 1, -1):
                for host_id in group.buckets[count]:
                    host = self.ledger.hosts[host_id]
                    if self._bar(host, team) is None:
                        yield host, cards
                    else:
                        room.barred = True

    def _furnish(self, room: Room, kind: Kind) -> None:
        shape, groups = kind.shape, room.groups()
        if not any(bucket for group, _ in groups for bucket in group.buckets):
            among = {id(group) for group, _ in groups}
            silent = sum(1 for host in self.ledger.hosts.values() if id(host.group) in among)
            room.busy = self.causes.of(HoldCode.NO_NODES, nodes=silent)
        elif shape.gpus:
            self._cards(room, kind)
        elif shape.wants_gpu:
            nodes = list(self._open(room, kind.team))
            room.sides = self._slices.sides(kind, nodes)
            if not room.sides:
                room.busy = self._slices.cause(kind, nodes)
        else:
            want = Want(0, kind.team, shape, "", self.now + 1)
            room.sides = [self.search.spare(host, want) for host, _ in self._open(room, kind.team)]

    def _cards(self, room: Room, kind: Kind) -> None:
        shape = kind.shape
        for host, cards in self._open(room, kind.team, fewest=shape.gpus):
            if linked(host.group, host.free & cards, shape).bit_count() >= shape.gpus:
                room.sides.append((host.cpu, host.memory))
        if room.sides:
            return
        most = max(self._most_free(inside, kind.team) for inside in by_island(room.groups(), shape) or [[]])
        if shape.required == ISLAND:
            room.busy = self.causes.of(HoldCode.ISLAND_BUSY, gpus=shape.gpus * shape.replicas, free_gpus=most)
        else:
            room.busy = self.causes.of(HoldCode.GPUS_BUSY, gpus=shape.gpus, free_gpus=most)

    def _most_free(self, groups: Options, team: int) -> int:
        """The most suitable cards that are free on one node: the fullest bucket says it where all cards suit."""
        most, hosts = 0, self.ledger.hosts
        for group, cards in groups:
            for count in range(group.size, 0, -1):
                if count <= most:
                    break
                for host_id in group.buckets[count]:
                    if most < count and self._bar(hosts[host_id], team) is None:
                        most = max(most, (hosts[host_id].free & cards).bit_count())
        return most

    def _size(self, ask: Ask, kind: Kind, room: Room) -> Cause | None:
        """CPU before memory, one replica before all of them."""
        shape = kind.shape
        cpu = max((cpu for cpu, _ in room.sides), default=-1)
        beside = "free" if shape.wants_gpu else "spare"
        if cpu < shape.cpu_millis or not room.sides:
            numbers = {"cpu_millis": shape.cpu_millis, f"{beside}_cpu_millis": max(0, cpu)}
            return self.causes.of(HoldCode.CPU_BUSY, **numbers)
        memory = max(memory for cpu, memory in room.sides if cpu >= shape.cpu_millis)
        if memory < shape.memory_mib:
            numbers = {"memory_mib": shape.memory_mib, f"{beside}_memory_mib": max(0, memory)}
            return self.causes.of(HoldCode.MEMORY_BUSY, **numbers)
        return None if shape.replicas == 1 else self._gang(ask, room)

    # ---------------------------------------------------------------------------------------- all replicas
    def _gang(self, ask: Ask, room: Room) -> Cause | None:
        """One replica fits. How many do, in the pool that holds most, and how many in one domain?"""
        shape = ask.shape
        fitting = together = 0
        for pool, groups in room.options:
            want = Want(ask.job, ask.team, shape, pool, self.now + 1)
            if self.fits(want):
                return None
            for inside in by_island(groups, shape):
                here = self._fitting(want, inside)
                # In an island lies all of it: what fits in others is no part of it.
                counts = [count for count, _ in here]
                fitting = max(fitting, max(counts, default=0) if shape.required == ISLAND else sum(counts))
            if shape.required not in ("", ISLAND):
                together = max(together, self._together(shape.required, here))
        if fitting < shape.replicas:
            return self.causes.of(HoldCode.GANG_BUSY, replicas=shape.replicas, fitting=fitting)
        return self.causes.of(HoldCode.TOPOLOGY, replicas=shape.replicas, together=together) if shape.required else None

    def _fitting(self, want: Want, groups: Options) -> list[tuple[int, Host]]:
        """(replicas that fit, node). Parts of cards are counted by taking them, node by node."""
        found = []
        for most, host, cards, *_ in capacities(self.search, want, groups):
            count = most
            if want.shape.wants_gpu and not want.shape.gpus:
                mark, count = self.ledger.checkpoint(), 0
                while count < most and (part := self.search.one_here(want, host, cards)) is not None:
                    self.ledger.take(want.job, part)
                    count += 1
                self.ledger.rollback(mark)
            if count:
                found.append((count, host))
        return found

    def _together(self, required: str, fitting: list[tuple[int, Host]]) -> int:
        """The most replicas that fit in one domain of the required level; none where nobody knows that level."""
        levels = (*self.state.policy.levels, NODE)
        if required not in levels:
            return 0
        sums: dict[tuple[str, ...], int] = {}
        for count, host in fitting:
            key = domain_of(host, levels.index(required), len(levels))
            if key is not None:
                sums[key] = sums.get(key, 0) + count
        return max(sums.values(), default=0)
