"""Where a job adds least to fragmentation: the measure of `fragmentation` on the ledger's nodes, remembered per node.

Used only where shares of cards are among the asks: for whole cards alone, best fit says the same at a fraction of the
cost. One decision changes one node, so a score holds until its node has moved.
"""

from collections.abc import Iterable

from scheduling.core.cluster import Shape
from scheduling.core.fragmentation import WHOLE, Mix, Room, growth
from scheduling.core.ledger import Host
from scheduling.core.units import GPU_UNITS

#: growth, free thousandths on the node, its id, and what is free of the card that a share should take
Ranked = tuple[int, int, int, int]


class Scores:
    """Scores under one mix of asks: (shape, how often it came)."""

    def __init__(self, mix: Iterable[tuple[Shape, int]]) -> None:
        self._mix = Mix.of(mix)
        self._rooms: dict[int, tuple[int, Room, int]] = {}
        self._known: dict[Shape, dict[int, tuple[int, Ranked | None]]] = {}
        self._growths: dict[Shape, dict[Room, tuple[int, int] | None]] = {}

    def ranked(self, shape: Shape, hosts: Iterable[Host]) -> list[Ranked]:
        """The nodes that have room, the best first. Promises and whose shares lie on a card are not looked at."""
        alike = Shape(gpus=shape.gpus, thousandths=shape.thousandths, cpu_millis=shape.cpu_millis,
                      memory_mib=shape.memory_mib)  # fmt: skip
        known, growths = self._known.setdefault(alike, {}), self._growths.setdefault(alike, {})
        found = []
        for host in hosts:
            score = known.get(host.id)
            if score is None or score[0] != host.moves:
                score = known[host.id] = (host.moves, self._score(host, alike, growths))
            if score[1] is not None:
                found.append(score[1])
        found.sort()
        return found

    def _score(self, host: Host, shape: Shape, growths: dict[Room, tuple[int, int] | None]) -> Ranked | None:
        kept = self._rooms.get(host.id)
        if kept is None or kept[0] != host.moves:
            room = _room(host)
            kept = self._rooms[host.id] = (host.moves, room, sum(room.cards))
        room = kept[1]
        if room not in growths:
            grown = growth(room, shape, self._mix)
            growths[room] = None if grown is None else (grown[0], room.cards[grown[1][0]])
        found = growths[room]
        return None if found is None else (found[0], kept[2], host.id, found[1])


def _room(host: Host) -> Room:
    """Its cards in the order of what is free of them, so that nodes in the same state are the same room. Cut into
    instances, a card is of no use to shares and whole cards."""
    model = host.node.gpus[0].model if host.node.gpus else ""
    return Room(model, tuple(sorted(free_of(host))), max(0, host.cpu), max(0, host.memory))


def free_of(host: Host) -> list[int]:
    """Free thousandths of each card, by its place."""
    return [
        0 if gpu.layout else WHOLE - sum(piece.units for _, piece in card) * WHOLE // GPU_UNITS
        for gpu, card in zip(host.node.gpus, host.cards, strict=True)
    ]
