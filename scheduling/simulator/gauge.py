"""How much of the cluster is held, by whom, and how much of what is free is of no use: sampled as time passes."""

from collections.abc import Sequence

from scheduling.core.cluster import Node, Part, Shape
from scheduling.core.fragmentation import WHOLE, Mix, Room, useful
from scheduling.core.units import GPU_UNITS
from scheduling.simulator.history import Sample


class Gauge:
    """Told of every start and end; integrates between them, so that a short burst is not missed by a sample."""

    def __init__(self, nodes: Sequence[Node], every_s: int) -> None:
        self.every_s = every_s
        self._free: dict[int, dict[int, int]] = {node.id: {gpu.id: WHOLE for gpu in node.gpus} for node in nodes}
        self._cpu = {node.id: node.cpu_millis - node.reserved_cpu_millis for node in nodes}
        self._memory = {node.id: node.memory_mib - node.reserved_memory_mib for node in nodes}
        self._model = {node.id: node.gpus[0].model if node.gpus else "" for node in nodes}
        self.gpus = sum(len(cards) for cards in self._free.values())
        self._rooms: dict[int, Room | None] = dict.fromkeys(self._free)
        self._useful: dict[Room, int] = {}
        self._scored_for = 0
        self.mix = Mix()
        self._held: dict[int, int] = {}
        self._integral: dict[int, int] = {}
        self._at: int | None = None
        self._began = 0
        self.samples: list[Sample] = []

    def saw(self, shape: Shape) -> bool:
        """Count an ask. True when the mix has changed so much that the scheduler should be told."""
        version = self.mix.version
        self.mix.saw(shape)
        return self.mix.version != version

    def take(self, team: int, parts: tuple[Part, ...], sign: int = 1) -> None:
        """Count what a start holds; `sign` -1 gives it back."""
        units = 0
        for part in parts:
            cards = self._free[part.node]
            self._rooms[part.node] = None
            self._cpu[part.node] -= sign * part.cpu_millis
            self._memory[part.node] -= sign * part.memory_mib
            for piece in part.pieces:
                units += piece.units
                cards[piece.gpu] -= sign * (piece.units * WHOLE // GPU_UNITS)
        self._held[team] = self._held.get(team, 0) + sign * units

    def advance(self, now: int, waiting: int) -> None:
        """Time passes to `now` with things as they are."""
        if self._at is None:
            self._at = self._began = now
        while now >= self._began + self.every_s:
            self._integrate(self._began + self.every_s)
            self._sample(waiting)
        self._integrate(now)

    def finish(self, waiting: int) -> None:
        """Nothing more comes: what has passed since the last sample is one too."""
        if self._at is not None and self._at > self._began:
            self._sample(waiting)

    def _integrate(self, until: int) -> None:
        assert self._at is not None
        passed = until - self._at
        if passed:
            for team, units in self._held.items():
                self._integral[team] = self._integral.get(team, 0) + units * passed
        self._at = until

    def _sample(self, waiting: int) -> None:
        assert self._at is not None
        span = self._at - self._began
        by_team = {team: sum_ / (span * GPU_UNITS) for team, sum_ in sorted(self._integral.items())}
        used = sum(by_team.values()) / self.gpus if self.gpus else 0.0
        self.samples.append(Sample(self._at, span, used, self._fragmented(), waiting, by_team))
        self._integral.clear()
        self._began = self._at

    def _fragmented(self) -> float:
        """Between two samples few nodes change, and many are alike: each different state is scored once."""
        if self._scored_for != self.mix.version:
            self._scored_for = self.mix.version
            self._useful.clear()
        free = of_use = 0
        for node, room in self._rooms.items():
            if room is None:
                room = self._rooms[node] = Room(
                    self._model[node], tuple(sorted(self._free[node].values())), self._cpu[node], self._memory[node]
                )
            if room.cards and room.cards[-1]:
                if room not in self._useful:
                    self._useful[room] = useful(room, self.mix.kinds(room.model))
                free += sum(room.cards)
                of_use += self._useful[room]
        weight = self.mix.weight
        return 1 - of_use / (free * weight) if free and weight else 0.0
