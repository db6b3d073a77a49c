"""Machines for the baselines: what is free on each, best fit or random, and nothing of the core's cleverness."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random  # noqa: TID251  (the baseline is named random; its seed is an argument)

from scheduling.core.cluster import Node, Shape
from scheduling.simulator.traces.job import WHOLE

#: one replica: the machine, the cards by place, and what is taken of each card
Taken = tuple[int, tuple[int, ...], int]


@dataclass(slots=True)
class Machine:
    model: str
    memory_of_card: int
    cards: list[int]  # free thousandths of each
    cpu: int
    memory: int
    whole: int = field(default=0)  # cards that are entirely free

    def copy(self) -> "Machine":
        return Machine(self.model, self.memory_of_card, self.cards[:], self.cpu, self.memory, self.whole)


class Yard:
    def __init__(self, nodes: Iterable[Node], *, dice: Random | None = None) -> None:
        self.dice = dice
        self.machines = [
            Machine(
                model=node.gpus[0].model if node.gpus else "",
                memory_of_card=node.gpus[0].memory_mib if node.gpus else 0,
                cards=[WHOLE] * len(node.gpus),
                cpu=node.cpu_millis - node.reserved_cpu_millis,
                memory=node.memory_mib - node.reserved_memory_mib,
                whole=len(node.gpus),
            )
            for node in nodes
        ]

    def copy(self) -> "Yard":
        twin = Yard((), dice=self.dice)
        twin.machines = [machine.copy() for machine in self.machines]
        return twin

    def full(self) -> bool:
        """No card has anything free. Always False where there are no cards: then CPU decides."""
        has_cards = False
        for machine in self.machines:
            has_cards = has_cards or bool(machine.cards)
            if machine.whole or any(machine.cards):
                return False
        return has_cards

    def place(self, shape: Shape) -> list[Taken] | None:
        """All replicas, each where it leaves the least, or nothing."""
        taken: list[Taken] = []
        for _ in range(shape.replicas):
            found = self._one(shape)
            if found is None:
                self.give_back(shape, taken)
                return None
            self.take(shape, [found])
            taken.append(found)
        return taken

    def take(self, shape: Shape, taken: list[Taken], sign: int = 1) -> None:
        for number, cards, part in taken:
            machine = self.machines[number]
            machine.cpu -= sign * shape.cpu_millis
            machine.memory -= sign * shape.memory_mib
            for card in cards:
                was = machine.cards[card]
                machine.cards[card] = now = was - sign * part
                machine.whole += (now == WHOLE) - (was == WHOLE)

    def give_back(self, shape: Shape, taken: list[Taken]) -> None:
        self.take(shape, taken, -1)

    def has_room(self, shape: Shape, taken: list[Taken]) -> bool:
        """Are these very cards free? Replicas on one machine are looked at one by one, then put back."""
        done: list[Taken] = []
        for one in taken:
            machine = self.machines[one[0]]
            free = all(machine.cards[card] >= one[2] for card in one[1])
            if not free or machine.cpu < shape.cpu_millis or machine.memory < shape.memory_mib:
                break
            self.take(shape, [one])
            done.append(one)
        self.give_back(shape, done)
        return len(done) == len(taken)

    def move(self, shape: Shape, taken: list[Taken]) -> list[Taken] | None:
        """The same machines, whichever of their cards are free: cards of a machine are alike."""
        moved: list[Taken] = []
        for number, cards, part in taken:
            free = [card for card, left in enumerate(self.machines[number].cards) if left >= part][: len(cards)]
            one = (number, tuple(free), part)
            if len(free) < len(cards) or not self.has_room(shape, [one]):
                self.give_back(shape, moved)
                return None
            self.take(shape, [one])
            moved.append(one)
        return moved

    def _one(self, shape: Shape) -> Taken | None:
        best, least = None, (0, 0)
        fitting = []
        for number, machine in enumerate(self.machines):
            if machine.cpu < shape.cpu_millis or machine.memory < shape.memory_mib:
                continue
            if shape.wants_gpu and not _suits(machine, shape):
                continue
            if self.dice is not None:
                fitting.append(number)
                continue
            left = (machine.whole, machine.cpu) if shape.wants_gpu else (len(machine.cards), machine.cpu)
            if shape.thousandths:
                left = (min(free for free in machine.cards if free >= shape.thousandths), machine.whole)
            if best is None or left < least:
                best, least = number, left
        if self.dice is not None and fitting:
            best = self.dice.choice(fitting)
        return None if best is None else (best, *_cards(self.machines[best], shape))


def _suits(machine: Machine, shape: Shape) -> bool:
    if (shape.models and machine.model not in shape.models) or machine.memory_of_card < shape.gpu_memory_mib:
        return False
    if shape.thousandths:
        return any(free >= shape.thousandths for free in machine.cards)
    return machine.whole >= (shape.gpus or 1)


def _cards(machine: Machine, shape: Shape) -> tuple[tuple[int, ...], int]:
    """Which cards, and how much of each. A MIG instance takes a whole card: the baselines do not cut."""
    if not shape.wants_gpu:
        return (), 0
    if shape.thousandths:
        fullest = min((free, card) for card, free in enumerate(machine.cards) if free >= shape.thousandths)
        return (fullest[1],), shape.thousandths
    whole = [card for card, free in enumerate(machine.cards) if free == WHOLE]
    return tuple(whole[: shape.gpus or 1]), WHOLE
