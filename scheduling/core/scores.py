"""Where a job adds least to fragmentation: the measure of `fragmentation` on the ledger's nodes, remembered per node.

Used only where shares of cards are among the asks: for whole cards alone, best fit says the same at a fraction of the
cost. One decision changes one node, so the nodes are kept in the order of their scores, and only those that the
ledger's log names are looked at again.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable

from scheduling.core.cluster import Shape
from scheduling.core.fragmentation import WHOLE, Mix, Room, growth
from scheduling.core.ledger import Host, Ledger
from scheduling.core.units import GPU_UNITS

#: growth, free thousandths on the node, its id, and what is free of the card that a share should take (0: none)
Ranked = tuple[int, int, int, int]
#: after so many changes it is quicker to sort anew
_MANY = 100


class Scores:
    """Scores under one mix of asks: (shape, how often it came)."""

    def __init__(self, mix: Iterable[tuple[Shape, int]]) -> None:
        self._mix = Mix.of(mix)
        self._rooms: dict[int, tuple[Host, int, Room, int]] = {}
        self._orders: dict[Shape, _Order] = {}

    def ranked(self, shape: Shape, ledger: Ledger) -> list[Ranked]:
        """The accepting nodes that have room, the best first; valid until the next question. Models, promises and whose
        shares lie on a card are not looked at."""
        alike = Shape(gpus=shape.gpus, thousandths=shape.thousandths, cpu_millis=shape.cpu_millis,
                      memory_mib=shape.memory_mib)  # fmt: skip
        order = self._orders.get(alike)
        if order is None:
            order = self._orders[alike] = _Order()
        for host in order.changed(ledger):
            order.put(host, self._score(host, alike, order.growths))
        order.settle()
        return order.ranked

    def _score(self, host: Host, shape: Shape, growths: dict[Room, tuple[int, int] | None]) -> Ranked | None:
        kept = self._rooms.get(host.id)
        if kept is None or kept[0] is not host or kept[1] != host.moves:
            room = _room(host)
            kept = self._rooms[host.id] = (host, host.moves, room, sum(room.cards))
        room = kept[2]
        if room not in growths:
            grown = growth(room, shape, self._mix)
            growths[room] = None if grown is None else (grown[0], room.cards[grown[1][0]] if grown[1] else 0)
        found = growths[room]
        return None if found is None else (found[0], kept[3], host.id, found[1])


class _Order:
    """The nodes in the order of their scores for one shape, and how much of the ledger's log it knows of."""

    __slots__ = ("_fresh", "_known", "_log", "growths", "ranked")

    def __init__(self) -> None:
        self.ranked: list[Ranked] = []
        #: scores of nodes that are alike
        self.growths: dict[Room, tuple[int, int] | None] = {}
        self._known: dict[int, tuple[Host, int, Ranked | None]] = {}
        self._log = (-1, 0)
        self._fresh: list[tuple[Ranked | None, Ranked | None]] = []

    def changed(self, ledger: Ledger) -> list[Host]:
        """The nodes whose scores may differ from what is known."""
        era, seen = self._log
        self._log = (ledger.era, len(ledger.changes))
        if era == ledger.era:
            hosts = (ledger.hosts[host_id] for host_id in sorted(set(ledger.changes[seen:])))
            return [host for host in hosts if host.id in self._known]
        accepting = {host.id: host for host in ledger.accepting() if host.group.size}
        for gone in self._known.keys() - accepting.keys():
            self._fresh.append((self._known.pop(gone)[2], None))
        known = self._known
        return [
            host
            for host_id, host in accepting.items()
            if host_id not in known or known[host_id][0] is not host or known[host_id][1] != host.moves
        ]

    def put(self, host: Host, score: Ranked | None) -> None:
        before = self._known.get(host.id)
        self._known[host.id] = (host, host.moves, score)
        if before is None or before[2] != score:
            self._fresh.append((before[2] if before is not None else None, score))

    def settle(self) -> None:
        """Bring what was put into its place."""
        if len(self._fresh) > _MANY:
            self.ranked = sorted(score for _, _, score in self._known.values() if score is not None)
        else:
            for before, score in self._fresh:
                if before is not None:
                    del self.ranked[bisect_left(self.ranked, before)]
                if score is not None:
                    insort(self.ranked, score)
        self._fresh.clear()


def _room(host: Host) -> Room:
    """Its cards in the order of what is free of them, so that nodes in the same state are the same room."""
    model = host.node.gpus[0].model if host.node.gpus else ""
    return Room(model, tuple(sorted(free_of(host))), max(0, host.cpu), max(0, host.memory))


def free_of(host: Host) -> list[int]:
    """Thousandths of each card that a share or a whole card could take, by its place: none beside an instance, and none
    where the card stays cut."""
    fixed = host.group.fixed
    return [
        0
        if fixed >> place & 1 or any(piece.profile for _, piece in card)
        else WHOLE - sum(piece.units for _, piece in card) * WHOLE // GPU_UNITS
        for place, card in enumerate(host.cards)
    ]
