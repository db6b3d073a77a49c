"""Arrivals only, after "Beware of Fragmentation" (USENIX ATC 2023): work comes, none
leaves, what fits nowhere is dropped.

The score is the share of all cards that is held in the end. Best fit, random and the paper's own rule, for comparison.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random  # noqa: TID251  (the baseline is named random; its seed is an argument)

from scheduling.core.cluster import Shape
from scheduling.core.fragmentation import Mix, Room, growth
from scheduling.simulator.traces.job import WHOLE, TraceJob
from scheduling.simulator.traces.openb import TraceNode


@dataclass(frozen=True, slots=True)
class Arrived:
    """`held` and `capacity` in thousandths of a card; `dropped`: ids of what found no place."""

    held: int
    capacity: int
    dropped: tuple[str, ...]

    @property
    def percent(self) -> float:
        return 100 * self.held / self.capacity


class Floor:
    """The nodes and what is free on each. One `Room` per node, replaced whenever something is taken."""

    def __init__(self, nodes: Iterable[TraceNode]) -> None:
        self.rooms = [Room(n.model, (WHOLE,) * n.gpus, n.cpu_millis, n.memory_mib) for n in nodes]
        self.capacity = sum(len(room.cards) for room in self.rooms) * WHOLE
        self.largest_cpu = max((room.cpu_millis for room in self.rooms), default=0)
        self.largest_cards = max((len(room.cards) for room in self.rooms), default=0)

    def take(self, node: int, shape: Shape, cards: tuple[int, ...]) -> None:
        room, left = self.rooms[node], list(self.rooms[node].cards)
        for card in cards:
            left[card] -= shape.thousandths or WHOLE
        self.rooms[node] = Room(
            room.model, tuple(left), room.cpu_millis - shape.cpu_millis, room.memory_mib - shape.memory_mib
        )


#: chooses a node and its cards, or None; told the floor and what asks
Chooser = Callable[[Floor, Shape], tuple[int, tuple[int, ...]] | None]


def shape_of(job: TraceJob) -> Shape:
    part = job.gpu_thousandths if job.gpus and job.gpu_thousandths < WHOLE else 0
    return Shape(
        gpus=0 if part else job.gpus,
        thousandths=part,
        cpu_millis=job.cpu_millis,
        memory_mib=job.memory_mib,
        models=job.models,
    )


def replay(jobs: Iterable[TraceJob], nodes: Iterable[TraceNode], choose: Chooser) -> Arrived:
    floor, held, dropped = Floor(nodes), 0, []
    for job in jobs:
        shape = shape_of(job)
        found = choose(floor, shape)
        if found is None:
            dropped.append(job.id)
            continue
        floor.take(found[0], shape, found[1])
        held += job.milli_gpus
    return Arrived(held, floor.capacity, tuple(dropped))


def cards_for(room: Room, shape: Shape) -> tuple[int, ...] | None:
    """The cards that keep least: the fullest that has enough, or the first whole ones. None if the node will not do."""
    if shape.cpu_millis > room.cpu_millis or shape.memory_mib > room.memory_mib:
        return None
    if not (shape.gpus or shape.thousandths):
        return ()
    if shape.models and room.model not in shape.models:
        return None
    if shape.thousandths:
        fitting = [(free, card) for card, free in enumerate(room.cards) if free >= shape.thousandths]
        return (min(fitting)[1],) if fitting else None
    whole = tuple(card for card, free in enumerate(room.cards) if free == WHOLE)[: shape.gpus]
    return whole if len(whole) == shape.gpus else None


def best_fit(floor: Floor, shape: Shape) -> tuple[int, tuple[int, ...]] | None:
    """The node that keeps least of CPU and cards together, each as a share of the largest node's."""
    best, score = None, 0
    for node, room in enumerate(floor.rooms):
        cards = cards_for(room, shape)
        if cards is None:
            continue
        # Over a common denominator, so that the comparison is exact.
        kept = room.cpu_millis * floor.largest_cards * WHOLE + sum(room.cards) * floor.largest_cpu
        if best is None or kept < score:
            best, score = (node, cards), kept
    return best


def random_fit(seed: int) -> Chooser:
    generator = Random(seed)

    def choose(floor: Floor, shape: Shape) -> tuple[int, tuple[int, ...]] | None:
        fitting = [
            (node, cards) for node, room in enumerate(floor.rooms) if (cards := cards_for(room, shape)) is not None
        ]
        if not fitting:
            return None
        node, _ = generator.choice(fitting)
        room = floor.rooms[node]
        if not shape.thousandths:
            return node, fitting[[n for n, _ in fitting].index(node)][1]
        return node, (generator.choice([c for c, free in enumerate(room.cards) if free >= shape.thousandths]),)

    return choose


class LeastFragmentation:
    """The paper's rule on the mix of asks seen so far. Growth is kept per node and shape until the node or the mix
    changes: one placement changes one node. Ties go to the node that keeps fewest cards free, then to the first."""

    def __init__(self) -> None:
        self.mix = Mix()
        self._version = 0
        self._known: dict[Shape, list[tuple[Room, tuple[int, tuple[int, ...]] | None]]] = {}

    def __call__(self, floor: Floor, shape: Shape) -> tuple[int, tuple[int, ...]] | None:
        self.mix.saw(shape)
        if self._version != self.mix.version:
            self._version = self.mix.version
            self._known.clear()
        known = self._known.get(shape)
        if known is None:
            known = self._known[shape] = [(room, self._growth(room, shape)) for room in floor.rooms]
        best, score = None, (0, 0)
        for node, room in enumerate(floor.rooms):
            seen, grown = known[node]
            if seen is not room:
                grown = self._growth(room, shape)
                known[node] = (room, grown)
            if grown is not None and (best is None or (grown[0], sum(room.cards)) < score):
                best, score = (node, grown[1]), (grown[0], sum(room.cards))
        return best

    def _growth(self, room: Room, shape: Shape) -> tuple[int, tuple[int, ...]] | None:
        if shape.models and room.model not in shape.models:
            return None
        return growth(room, shape, self.mix)
