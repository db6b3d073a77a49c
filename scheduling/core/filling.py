"""Which runs lie within their team's guarantee, and which are borrowed.

A team's runs fill its guarantee: what may not be evicted first, then by tier, start and id; what lies beyond it, or
across the line, is borrowed. The order of one team's runs is kept between plans; the line is drawn when a plan begins.
"""

from bisect import bisect_left, insort
from collections.abc import Callable

from scheduling.core.cluster import Run
from scheduling.core.lifecycle import JobState

EVICTABLE = frozenset({JobState.PLACED, JobState.STARTING, JobState.RUNNING, JobState.RESUMING})

#: (may be evicted, tier, held at, job, units, may be evicted in its present state)
Place = tuple[bool, int, int, int, int, bool]


class Filling:
    """The runs of each (pool, team) in the order in which they fill its guarantee, and the runs on each node."""

    def __init__(self) -> None:
        self.lines: dict[tuple[str, int], list[Place]] = {}
        self.on_node: dict[int, dict[int, None]] = {}
        #: the first run of each (pool, team) that is borrowed, or None
        self.beyond: dict[tuple[str, int], Place | None] = {}
        self._of: dict[int, tuple[tuple[str, int], Place, set[int]]] = {}

    def add(self, run: Run, tier: int, units: int) -> None:
        """A run holds so much, or has moved to another state."""
        ask = run.ask
        open_ = ask.preemptible and run.state in EVICTABLE
        place, key = (ask.preemptible, tier, run.held_at, run.job, units, open_), (run.pool, ask.team)
        known = self._of.get(run.job)
        if known is not None:
            if known[:2] == (key, place):
                return
            self.remove(run.job)
        nodes = {part.node for part in run.parts}
        self._of[run.job] = key, place, nodes
        insort(self.lines.setdefault(key, []), place)
        for node in nodes:
            self.on_node.setdefault(node, {})[run.job] = None

    def remove(self, job: int) -> None:
        """A run holds nothing any more."""
        key, place, nodes = self._of.pop(job)
        line = self.lines[key]
        del line[bisect_left(line, place)]
        if not line:
            del self.lines[key]
            self.beyond.pop(key, None)
        for node in nodes:
            del self.on_node[node][job]

    def place_of(self, job: int) -> Place:
        return self._of[job][1]

    def draw(self, guaranteed: Callable[[str, int], int]) -> set[int]:
        """Draw the line for every (pool, team) as its guarantee stands now. Answers the nodes with runs that have
        changed sides."""
        nodes: set[int] = set()
        for key, line in self.lines.items():
            index, owed = 0, guaranteed(*key)
            for place in line:
                owed -= place[4]
                if owed < 0:
                    break
                index += 1
            first = line[index] if index < len(line) else None
            if key in self.beyond and self.beyond[key] != first:
                before = self.beyond[key]
                old = len(line) if before is None else bisect_left(line, before)
                for place in line[min(old, index) : max(old, index)]:
                    nodes |= self._of[place[3]][2]
            self.beyond[key] = first
        return nodes

    def is_guaranteed(self, job: int) -> bool:
        """Did this run lie within its team's guarantee when the line was drawn?"""
        key, place, _ = self._of[job]
        first = self.beyond[key]
        return first is None or place < first
