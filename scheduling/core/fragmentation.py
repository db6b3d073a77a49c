"""How much of what is free on a node is of no use to the work that usually comes, and what a placement adds to it.

The measure of "Beware of Fragmentation" (Weng et al., USENIX ATC 2023), in integers: for each kind of ask seen so far,
the free thousandths of the node's cards that this kind could not use are lost to it; a kind that the node cannot
serve at all loses everything that is free. The sum over the kinds, each weighted by how often it came, is the node's
fragmentation. The best place for an ask is where that sum grows least.

One refinement: a kind that could use c cards, but finds CPU and memory for only m < c of its copies, counts only m of
them as of use. Without it a node short of CPU looks as good as one with plenty until the last copy no longer fits.

Kinds without GPUs lose all free cards wherever they go, the same on every node, so they are left out.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from scheduling.core.cluster import Shape

WHOLE = 1000  # thousandths of a card
_FIRST_REFRESH = 2


@dataclass(frozen=True, slots=True)
class Room:
    """What is free on one node: its cards' free thousandths (all of one model), CPU and memory."""

    model: str
    cards: tuple[int, ...]
    cpu_millis: int
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of ask and how often it came. `gpus` whole cards, or `part` thousandths of one."""

    seen: int
    gpus: int
    part: int
    cpu_millis: int
    memory_mib: int
    models: tuple[str, ...]


class Mix:
    """The asks seen so far. The kinds used for scores are renewed only when the number of asks has doubled, so scores
    can be kept between (`version` tells when not), and renewing costs next to nothing."""

    def __init__(self) -> None:
        self.version = 0
        self._seen: Counter[Shape] = Counter()
        self._total = 0
        self._next = 1
        self._kinds: tuple[Kind, ...] = ()
        self._by_model: dict[str, tuple[Kind, ...]] = {}
        self._useful: dict[Room, int] = {}
        self.weight = 0

    @classmethod
    def of(cls, counted: Iterable[tuple[Shape, int]]) -> "Mix":
        """A mix that somebody else has counted."""
        mix = cls()
        mix._seen.update(dict(counted))
        mix._total = mix._seen.total()
        mix._renew()
        return mix

    def counted(self) -> tuple[tuple[Shape, int], ...]:
        """The shapes and how often they came, as `of` takes them; in the order in which they first came."""
        return tuple(self._seen.items())

    def saw(self, shape: Shape) -> None:
        """Count one ask; replicas count as so many, because each is placed by itself."""
        if not (shape.gpus or shape.thousandths):
            return
        self._seen[shape] += shape.replicas
        self._total += shape.replicas
        if self._total >= self._next:
            self._next = max(_FIRST_REFRESH, 2 * self._total)
            self._renew()

    def kinds(self, model: str) -> tuple[Kind, ...]:
        """The kinds that may run on this model. Those that may not lose everything there whatever is placed."""
        found = self._by_model.get(model)
        if found is None:
            found = tuple(kind for kind in self._kinds if not kind.models or model in kind.models)
            self._by_model[model] = found
        return found

    def useful(self, room: Room) -> int:
        """`useful` for this mix, remembered: while a cluster fills, most of its nodes are alike."""
        known = self._useful.get(room)
        if known is None:
            known = self._useful[room] = useful(room, self.kinds(room.model))
        return known

    def _renew(self) -> None:
        self.version += 1
        self._by_model.clear()
        self._useful.clear()
        self.weight = self._seen.total()
        self._kinds = tuple(
            Kind(seen, shape.gpus, shape.thousandths, shape.cpu_millis, shape.memory_mib, shape.models)
            for shape, seen in self._seen.items()
        )


def useful(room: Room, kinds: tuple[Kind, ...]) -> int:
    """Thousandths of free cards that the kinds could use, each kind by itself, times how often it came.

    Fragmentation is the rest: `weight * sum(room.cards) - useful`.
    """
    cards = room.cards
    whole = cards.count(WHOLE)
    largest = max(cards, default=0)
    by_part: dict[int, tuple[int, int]] = {}
    total = 0
    for kind in kinds:
        cpu, memory = kind.cpu_millis, kind.memory_mib
        if cpu > room.cpu_millis or memory > room.memory_mib:
            continue
        if kind.gpus > 1:
            copies = whole // kind.gpus
            use = whole * WHOLE
        else:
            part = kind.part or WHOLE
            if part > largest:
                continue
            if part not in by_part:
                by_part[part] = _cards_with(cards, part)
            copies, use = by_part[part]
        if copies:
            served = min(room.cpu_millis // cpu if cpu else copies, room.memory_mib // memory if memory else copies)
            total += kind.seen * (use if served >= copies else use * served // copies)
    return total


def _cards_with(cards: tuple[int, ...], part: int) -> tuple[int, int]:
    """How many cards have so much free, and what they have together."""
    fitting = [free for free in cards if free >= part]
    return len(fitting), sum(fitting)


def growth(room: Room, shape: Shape, mix: Mix) -> tuple[int, tuple[int, ...]] | None:
    """By how much one replica of `shape` here raises fragmentation, and the cards (indices into `room.cards`) where it
    does so least; None if it does not fit. Negative where it uses what was of no use to others."""
    if shape.cpu_millis > room.cpu_millis or shape.memory_mib > room.memory_mib:
        return None
    taken = shape.thousandths or shape.gpus * WHOLE
    before = mix.useful(room) - mix.weight * taken  # what is taken is no longer free, hence not lost
    best: tuple[int, tuple[int, ...]] | None = None
    for chosen in _choices(room.cards, shape):
        grown = before - mix.useful(_without(room, shape, chosen))
        if best is None or grown < best[0]:
            best = (grown, chosen)
    return best


def _choices(cards: tuple[int, ...], shape: Shape) -> list[tuple[int, ...]]:
    """Cards that differ: whole ones are all alike, and so are two with the same free part. The fullest comes first."""
    if shape.thousandths:
        alike = {free: index for index, free in reversed(list(enumerate(cards))) if free >= shape.thousandths}
        return [(alike[free],) for free in sorted(alike)]
    whole = tuple(index for index, free in enumerate(cards) if free == WHOLE)[: shape.gpus]
    return [whole] if len(whole) == shape.gpus else []


def _without(room: Room, shape: Shape, chosen: tuple[int, ...]) -> Room:
    cards = list(room.cards)
    for index in chosen:
        cards[index] -= shape.thousandths or WHOLE
    return Room(
        room.model, tuple(sorted(cards)), room.cpu_millis - shape.cpu_millis, room.memory_mib - shape.memory_mib
    )
