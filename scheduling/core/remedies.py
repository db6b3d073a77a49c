"""Changes that would start a job now, each proven: the changed snapshot is planned, and the job must get its place.

A change is something its owner, or his team, may really do: ask for less, accept another pool, model or a looser
topology, run shorter than the next reservation, or use another tier. "Job X ends at 14:20" is a fact, not a change.

What is worth proving is found by one walk through the queue in which the changed asks wait beside all others
(`probing`): an alternative asks whether it would start, a number how large it may be at its turn. That walk is a hint:
with another number a job may come to another turn, and a plan does not try again what failed for another such job
before GPUs were taken, though these leave more CPU to work without GPUs.
"""

from collections.abc import Sequence
from dataclasses import replace

from scheduling.core.cluster import Ask, Cluster
from scheduling.core.dials import Change, Dial, alternatives, dials
from scheduling.core.plan import Planner
from scheduling.core.policy import Policy, SizeRule
from scheduling.core.probing import ProbingCycle, ProvingCycle

__all__ = ["Change", "Prover", "changes_that_would_start"]

#: beyond all jobs' numbers
LAST = 1 << 62
#: plans that are made at most for one number beyond those that the walk has named
CLOSER = 3


def changes_that_would_start(
    cluster: Cluster, policy: Policy, now: int, job: int, *, tiers: Sequence[str] = (), pools: Sequence[str] = ()
) -> tuple[Change, ...]:
    """For each sort of change the smallest one that starts the job in a plan of this moment, the mildest sort first.

    `tiers`: those that the person may use; `pools`: those that are open to the team (empty: all of the cluster).
    Whoever asks for several jobs of one snapshot keeps a Prover.
    """
    return Prover(cluster, policy, now).changes(job, tiers=tiers, pools=pools)


class Prover:
    """Proves changes on one snapshot. The planner is kept; only the ask in question is replaced and put back."""

    def __init__(self, cluster: Cluster, policy: Policy, now: int) -> None:
        self.planner, self.policy, self.now, self.cluster = Planner(policy, explain=False), policy, now, cluster
        self.planner.load(cluster)
        self.planner.plan(now)  # lets go of claims that are over; the rest of the state stays as it is
        self.pools = tuple(sorted({node.pool for node in cluster.nodes}))

    def changes(self, job: int, *, tiers: Sequence[str] = (), pools: Sequence[str] = ()) -> tuple[Change, ...]:
        """As `changes_that_would_start`. Nothing for a job that does not wait, that others are stopping for, or that
        is suspended: what it asks for is what it had."""
        ask = self.planner.queue.asks.get(job)
        if ask is None or ask.pinned or job in self.planner.claims or ask.not_before > self.now:
            return ()
        *others, by_tier = alternatives(
            ask, self.cluster, levels=self.policy.levels, tiers=tiers, pools=pools or self.pools
        )
        numbers = dials(ask, self.cluster)
        worth, steps = self._walk(ask, [*others, by_tier], numbers)
        found = [self._first(changes) for changes in worth[: len(others)]]
        found += [self._largest(dial, hints) for dial, hints in zip(numbers, steps, strict=True)]
        found.append(self._first(worth[-1]))
        return tuple(change for change in found if change is not None)

    # ---------------------------------------------------------------------------------------- hints
    def _walk(
        self, ask: Ask, sorts: Sequence[Sequence[Change]], numbers: Sequence[Dial]
    ) -> tuple[list[list[Change]], list[tuple[int, int]]]:
        """(the alternatives of each sort that would start, the steps at which each number would). Numbers ask twice: at
        the turn that the job would have with the least, and at that of the job as it is."""
        # One person's jobs hide each other, and what is small has the better share: the smaller ask comes first. Where
        # a shorter limit would come before all of them whatever its share, it asks at the turn of the job as it is.
        wishes: list[tuple[Ask, Sequence[Dial]]] = [(change.ask, ()) for changes in sorts for change in changes]
        tier = self.planner.queue.tier_of(ask)
        shortest = tier < len(self.policy.tiers) and self.policy.tiers[tier].size_rule is SizeRule.SHORTEST
        hides = "limit_s" if ask.deadline or shortest else ""
        wishes += [(dial.turned(1).ask, (dial,)) for dial in numbers if dial.what != hides]
        costs = [min((units for _, units in self.planner.costs_of(wish.shape)), default=0) for wish, _ in wishes]
        ranks = {at: rank for rank, at in enumerate(sorted(range(len(wishes)), key=lambda at: (costs[at], at)))}
        of = [ranks[at] - LAST - len(wishes) for at in range(len(wishes))]
        probes: dict[int, Sequence[Dial]] = {ask.job: numbers}
        asks = {ask.job: ask}
        for number, (wish, asking) in zip(of, wishes, strict=True):
            probes[number], asks[number] = asking, replace(wish, job=number)
        self.planner.withdraw(ask.job)
        for probe in asks.values():
            self.planner.submit(probe)
        cycle = ProbingCycle(self.planner, self.now, probes)
        cycle.decide()
        for number in asks:
            self.planner.withdraw(number)
        self.planner.submit(ask)
        found, numbered = cycle.found, iter(of)
        worth = [[change for change in changes if found.get((next(numbered), -1))] for changes in sorts]
        least = [0 if dial.what == hides else found.get((next(numbered), 0), 0) for dial in numbers]
        return worth, [(steps, found.get((ask.job, index), 0)) for index, steps in enumerate(least)]

    # ---------------------------------------------------------------------------------------- proofs
    def starts(self, ask: Ask) -> bool:
        """Would the job be placed in this very cycle, if it asked for that? By a plan of its own."""
        original = self.planner.queue.asks[ask.job]
        self.planner.submit(ask)
        proven = ProvingCycle(self.planner, self.now, ask.job).starts()
        self.planner.submit(original)
        return proven

    def _first(self, changes: Sequence[Change]) -> Change | None:
        return next((change for change in changes if self.starts(change.ask)), None)

    def _largest(self, dial: Dial, hints: tuple[int, int]) -> Change | None:
        """The highest step that is proven among those that were named; where only a lower one is, a few between."""
        fails = dial.steps + 1
        for step in sorted({*hints, 1} - {0} if any(hints) else (), reverse=True):
            if self.starts(dial.turned(step).ask):
                return dial.turned(self._closer(dial, step, fails))
            fails = step
        return None

    def _closer(self, dial: Dial, starts: int, fails: int) -> int:
        """Nearer to what is known to fail, if anything was tried in vain."""
        for _ in range(CLOSER if fails <= dial.steps else 0):
            middle = (starts + fails) // 2
            if middle == starts:
                break
            if self.starts(dial.turned(middle).ask):
                starts = middle
            else:
                fails = middle
        return starts
