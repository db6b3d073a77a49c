"""Cycles that decide nothing: one in which some jobs only ask what they would get, one that ends with a job's turn."""

from collections.abc import Mapping, Sequence

from scheduling.core.cluster import Ask
from scheduling.core.dials import Dial
from scheduling.core.ladder import Ladder
from scheduling.core.places.filters import Want
from scheduling.core.plan import Cycle, Planner
from scheduling.core.queue import Kind
from scheduling.core.rights import missing_right


class ProbingCycle(Cycle):
    """A walk through the queue in which some jobs only ask, each at its own place: a waiting job changes nothing for
    the others before its own turn comes, so all of them may wait in the same queue.

    `probes`: which dials each of these jobs would turn (none: it asks for itself as it is). `found`: by (job, index of
    the dial), how far that may be turned up; by (job, -1), whether it would start as it is.
    """

    def __init__(self, state: Planner, now: int, probes: Mapping[int, Sequence[Dial]]) -> None:
        super().__init__(state, now)
        self.probes = probes
        self.found: dict[tuple[int, int], int] = {}
        self._left = len(probes)

    def _entitle(self) -> None:
        super()._entitle()
        self.ladder = ProbingLadder(self)

    def is_decided(self, ask: Ask, kind: Kind) -> bool:
        """All have asked."""
        self._left -= ask.job in self.probes
        return not self._left


class ProbingLadder(Ladder):
    """Climbs for all others as ever; those that only ask try the rungs on which a job starts at once."""

    def __init__(self, cycle: ProbingCycle) -> None:
        super().__init__(cycle)
        self._probes, self._found = cycle.probes, cycle.found

    def climb(self, ask: Ask, kind: Kind) -> None:
        dials = self._probes.get(ask.job)
        if dials is None:
            super().climb(ask, kind)
        elif ask.not_before <= self.now:
            self.state.promises.asks(ask.job, self.state.evictable_from(ask, self.now))
            if not dials:
                self._found[ask.job, -1] = self._would_start(ask)
            for index, dial in enumerate(dials):
                self._found[ask.job, index] = self._furthest(dial)

    def _furthest(self, dial: Dial) -> int:
        """The highest step at which it would start, 0: at none. What does not start with one does not with a higher
        one."""
        if not self._would_start(dial.turned(1).ask):
            return 0
        starts, fails = 1, dial.steps + 1
        while fails - starts > 1:
            # The first question is the highest step: most dials do not matter at all, or matter little.
            middle = dial.steps if starts == 1 and fails > dial.steps else (starts + fails) // 2
            if self._would_start(dial.turned(middle).ask):
                starts = middle
            else:
                fails = middle
        return starts

    def _would_start(self, ask: Ask) -> bool:
        costs, trees = self.state.costs_of(ask.shape), self.state.trees
        for pool, units in sorted(costs, key=lambda cost: not trees[cost[0]].account(ask.team).guarantees(cost[1])):
            if missing_right(trees[pool], ask, units) is None:
                mark = self.state.ledger.checkpoint()
                parts = self.state.search.place(Want(ask.job, ask.team, ask.shape, pool, self.now + ask.limit_s))
                self.state.ledger.rollback(mark)
                if parts is not None:
                    return True
        return False


class ProvingCycle(Cycle):
    """A cycle as any other, but nobody is looked at after this job: what it gets is what a whole plan would give it."""

    def __init__(self, state: Planner, now: int, job: int) -> None:
        super().__init__(state, now)
        self.job, self._kind = job, state.queue.pairs[job][1]

    def is_decided(self, ask: Ask, kind: Kind) -> bool:
        limit_s = self.state.queue.asks[self.job].limit_s
        return ask.job == self.job or limit_s >= min(self._kind.dead_from, self._kind.family.dead_from)

    def starts(self) -> bool:
        """Decide. Does the job get its place at once?"""
        return any(place.job == self.job for place in self.decide().places)
