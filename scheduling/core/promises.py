"""What is promised on each node after now: reservations of blocked jobs, and the calendar. Others may use the time
before.

A card that somebody is promised serves no one else whose limit reaches into that promise; CPU and memory are compared
at the start of every promise, counting what running work will have given back by then (Slurm's backfill time map,
kept only for nodes that have a promise).
"""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType

from scheduling.core.cluster import Part
from scheduling.core.ledger import Host, Ledger

#: what a suspended job keeps in its node's memory has no known end
NEVER = 1 << 62
#: before anybody ends
PAST = -1
NOBODY: frozenset[int] = frozenset()
NOTHING: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Promise:
    """[starts, ends) on one node. `cards`: bits. `teams`: who is not barred by it (a booking's own teams). `booking`:
    the id of the booking that it stands for, 0 for none."""

    starts: int
    ends: int
    cards: int
    cpu_millis: int
    memory_mib: int
    job: int = 0
    teams: frozenset[int] = frozenset()
    #: cards above a suspended job: work that can be evicted by then may take them all the same
    parked: bool = False
    booking: int = 0


class Promises:
    """All promises by node id, and when each holder will have given back what it has."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.hosts: dict[int, list[Promise]] = {}
        #: job -> when it must be over
        self.ends: dict[int, int] = {}
        #: who is asking now, and from when on it could be evicted again
        self._asking, self._evictable_from = 0, NEVER
        #: what if nobody had booked anything?
        self.without_bookings = False
        #: there are cards above suspended jobs, so that it matters who asks
        self.parked = False
        #: node id -> (node, its `moves`, when each of its cards is free, the same in order)
        self._freeing: dict[int, tuple[Host, int, list[int], list[int]]] = {}

    def expect(self, ends: dict[int, int], parts_of: Callable[[int], Iterable[Part]]) -> None:
        """A plan begins: when every holder will have given back what it has. What is known about cards stays, but for
        nodes where somebody ends at another time than was thought before."""
        before = self.ends
        for job, at in ends.items():
            if before.get(job) != at:
                for part in parts_of(job):
                    self._freeing.pop(part.node, None)
        if len(self._freeing) > len(self.ledger.hosts):  # nodes have left for good
            self._freeing.clear()
        self.ends = ends

    def cards_free_from(self, host: Host) -> list[int]:
        """When each card of a node is free, by its place; 0: it is free now."""
        return self._known_cards(host)[2]

    def free_from(self, host: Host, suitable: int) -> list[int]:
        """When each of these cards is free, in order; 0: now."""
        _, _, by_place, in_order = self._known_cards(host)
        if suitable == host.all:
            return in_order
        return sorted(at for place, at in enumerate(by_place) if suitable >> place & 1)

    def _known_cards(self, host: Host) -> tuple[Host, int, list[int], list[int]]:
        known = self._freeing.get(host.id)
        if known is None or known[0] is not host or known[1] != host.moves:
            ends = self.ends
            by_place = [
                0 if not card else ends[card[0][0]] if len(card) == 1 else max(ends[job] for job, _ in card)
                for card in host.cards
            ]
            known = self._freeing[host.id] = host, host.moves, by_place, sorted(by_place)
        return known

    def cards_at(self, host: Host, at: int) -> int:
        """The cards that nobody holds at `at`, as bits, before promises."""
        free, bit = 0, 1
        for free_from in self._known_cards(host)[2]:
            if free_from <= at:
                free |= bit
            bit <<= 1
        return free

    def add(self, host_id: int, promise: Promise) -> None:
        self.hosts.setdefault(host_id, []).append(promise)
        self.parked = self.parked or promise.parked

    def clear(self) -> None:
        self.hosts.clear()
        self.parked = False

    def asks(self, job: int, evictable_from: int) -> None:
        """The questions that follow are this job's, which could be evicted again from then on (NEVER: not at all)."""
        self._asking, self._evictable_from = job, evictable_from

    def _binds(self, promise: Promise) -> bool:
        """What is kept for a job is open to itself, and the cards above a suspended one to work that can make way for
        it in time."""
        if promise.booking:
            return not self.without_bookings
        return promise.job != self._asking and not (promise.parked and self._evictable_from <= promise.starts)

    def limits(
        self, host: Host, team: int, until: int, gone: Set[int] = NOBODY, saves: Mapping[int, int] = NOTHING
    ) -> tuple[int, int, int]:
        """For work of `team` from now to `until`: the cards it must leave alone, and the CPU and memory it may take.
        As if the jobs in `gone` had left already; one in `saves` leaves so many MiB of its memory there for good."""
        blocked = 0
        cpu, memory = self.free_at(host, PAST, gone, saves) if gone else (host.cpu, host.memory)
        binding = [p for p in self.hosts[host.id] if p.starts < until and team not in p.teams and self._binds(p)]
        for promise in binding:
            blocked |= promise.cards
            then_cpu, then_memory = self.free_at(host, promise.starts, gone, saves)
            for other in binding:
                if other.starts <= promise.starts < other.ends:
                    then_cpu -= other.cpu_millis
                    then_memory -= other.memory_mib
            cpu, memory = min(cpu, then_cpu), min(memory, then_memory)
        return blocked, cpu, memory

    def free_at(
        self, host: Host, at: int, gone: Set[int] = NOBODY, saves: Mapping[int, int] = NOTHING
    ) -> tuple[int, int]:
        """CPU and memory that nobody holds at `at`, before promises; `gone` and `saves` as in `limits`."""
        cpu, memory = host.cpu, host.memory
        for job, part in host.parts:
            if job in gone:
                cpu += part.cpu_millis
                memory += part.memory_mib - saves.get(job, 0)
            elif self.ends.get(job, NEVER) <= at:
                cpu += part.cpu_millis
                memory += part.memory_mib
        return cpu, memory

    def reserved_at(self, host: Host, at: int) -> int:
        """The cards that blocked jobs are promised at that moment: nobody else's, whatever his team."""
        cards = 0
        for promise in self.hosts.get(host.id, ()):
            if promise.starts <= at < promise.ends and not (promise.teams or promise.parked):
                cards |= promise.cards
        return cards

    def window(self, host: Host, team: int, starts: int, ends: int) -> tuple[int, int, int]:
        """Cards, CPU and memory that others are promised at some time in [starts, ends)."""
        cards = cpu = memory = 0
        for promise in self.hosts.get(host.id, ()):
            overlaps = promise.starts < ends and promise.ends > starts
            if overlaps and team not in promise.teams and self._binds(promise):
                cards |= promise.cards
                cpu += promise.cpu_millis
                memory += promise.memory_mib
        return cards, cpu, memory
