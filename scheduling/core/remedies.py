"""Changes that would start a job now, each proven: the changed snapshot is planned, and the job must get its place.

A change is something its owner, or his team, may really do: ask for less, accept another pool, model or a looser
topology, run shorter than the next reservation, or use another tier. "Job X ends at 14:20" is a fact, not a change.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from scheduling.core.cluster import Ask, Cluster, Shape
from scheduling.core.decisions import Cause, HoldCode
from scheduling.core.ladder import Ladder
from scheduling.core.places.filters import ISLAND, NODE, Want
from scheduling.core.plan import Cycle, Planner
from scheduling.core.policy import Policy
from scheduling.core.queue import Kind
from scheduling.core.rights import missing_right

#: beyond all jobs' numbers
LAST = 1 << 62
#: limits that are worth trying, in seconds: what fits before the next reservation is rounded down to one of these
LIMITS = (86_400, 43_200, 14_400, 7_200, 3_600, 1_800, 900, 300)


@dataclass(frozen=True, slots=True)
class Change:
    """`what` names the field, `value` its new value; `ask` is the job as it would be."""

    what: str
    value: str
    ask: Ask


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
        self.planner, self.policy, self.now = Planner(policy, explain=False), policy, now
        self.planner.load(cluster)
        self.planner.plan(now)  # lets go of claims that are over; the rest of the state stays as it is
        self.pools = tuple(sorted({node.pool for node in cluster.nodes}))
        self.models = tuple(sorted({gpu.model for node in cluster.nodes for gpu in node.gpus}))
        self._submitted = Counter(ask.submitted for ask in cluster.asks)

    def changes(self, job: int, *, tiers: Sequence[str] = (), pools: Sequence[str] = ()) -> tuple[Change, ...]:
        """As `changes_that_would_start`. Nothing for a job that does not wait, that others are stopping for, or that
        is suspended: what it asks for is what it had."""
        ask = self.planner.queue.asks.get(job)
        if ask is None or ask.pinned or job in self.planner.claims:
            return ()
        sorts = [
            list(candidates)
            for candidates in (
                _other_pools(ask, pools or self.pools), _other_models(ask, self.models), _softer(ask, self.policy),
                _shorter(ask), _smaller(ask), _other_tiers(ask, tiers),
            )
        ]  # fmt: skip
        wishes = [change.ask for candidates in sorts for change in candidates]
        started = iter(self.starting(ask, wishes))
        verdicts = [[(change, next(started)) for change in candidates] for candidates in sorts]
        # What one walk for all of them says is proven by a plan of its own before anybody is told.
        firsts = [
            next((change for change, starts in known if starts and self.starts(change.ask)), None) for known in verdicts
        ]
        return tuple(change for change in firsts if change is not None)

    def starting(self, ask: Ask, wishes: Sequence[Ask]) -> list[bool]:
        """Would the job be placed in this very cycle, if instead of `ask` it asked for that? One answer for each wish.

        One walk through the queue answers for all: a waiting job changes nothing for the others before its own turn
        comes, so every wish may wait in the same queue, each at its own place, and is asked there whether it would get
        a place, without taking it. Its number breaks ties with those that came in the same moment: there every wish
        asks twice, before and after all of them, and if the answers differ it is planned by itself.
        """
        first = {-LAST - number: replace(wish, job=-LAST - number) for number, wish in enumerate(wishes, start=1)}
        last = {LAST + number: replace(wish, job=LAST + number) for number, wish in enumerate(wishes, start=1)}
        probes = first if self._submitted[ask.submitted] == 1 else {**first, **last}
        self.planner.withdraw(ask.job)
        for probe in probes.values():
            self.planner.submit(probe)
        cycle = ProbingCycle(self.planner, self.now, frozenset(probes))
        cycle.decide()
        for number in probes:
            self.planner.withdraw(number)
        self.planner.submit(ask)
        answers = []
        for early, late, wish in zip(first, last, wishes, strict=True):
            differ = late in probes and (early in cycle.found) != (late in cycle.found)
            answers.append(self.starts(wish) if differ else early in cycle.found)
        return answers

    def starts(self, ask: Ask) -> bool:
        """The same for one wish, by a plan of its own."""
        original = self.planner.queue.asks[ask.job]
        self.planner.submit(ask)
        outcome = self.planner.plan(self.now)
        self.planner.submit(original)
        return any(place.job == ask.job for place in outcome.places)


class ProbingCycle(Cycle):
    """A cycle in which some jobs only ask."""

    def __init__(self, state: Planner, now: int, probes: frozenset[int]) -> None:
        super().__init__(state, now)
        self.probes = probes
        self.found: set[int] = set()

    def _entitle(self) -> None:
        super()._entitle()
        self.ladder = ProbingLadder(self)


class ProbingLadder(Ladder):
    """Climbs for all others as ever; those that only ask try the rungs on which a job starts at once."""

    def __init__(self, cycle: ProbingCycle) -> None:
        super().__init__(cycle)
        self._probes, self._found = cycle.probes, cycle.found

    def climb(self, ask: Ask, kind: Kind) -> Cause | None:
        if ask.job not in self._probes:
            return super().climb(ask, kind)
        if ask.not_before <= self.now and self._would_start(ask, kind):
            self._found.add(ask.job)
        return self.causes.of(HoldCode.BEHIND, ahead=0)

    def _would_start(self, ask: Ask, kind: Kind) -> bool:
        self.state.promises.asks(ask.job, self.state.evictable_from(ask, self.now))
        for pool, units in self._in_order(kind):
            if missing_right(self.state.trees[pool], ask, units) is None:
                mark = self.state.ledger.checkpoint()
                parts = self.state.search.place(Want(ask.job, ask.team, ask.shape, pool, self.now + ask.limit_s))
                self.state.ledger.rollback(mark)
                if parts is not None:
                    return True
        return False


def _reshaped(ask: Ask, what: str, value: object, **changes: object) -> Change:
    return Change(what, str(value), replace(ask, shape=replace(ask.shape, **changes)))  # type: ignore[arg-type]


def _other_pools(ask: Ask, pools: Sequence[str]) -> Iterator[Change]:
    if ask.shape.pools:
        for pool in pools:
            if pool not in ask.shape.pools:
                yield _reshaped(ask, "pool", pool, pools=(*ask.shape.pools, pool))


def _other_models(ask: Ask, models: Sequence[str]) -> Iterator[Change]:
    if ask.shape.models:
        for model in models:
            if model and model not in ask.shape.models:
                yield _reshaped(ask, "model", model, models=(*ask.shape.models, model))


def _softer(ask: Ask, policy: Policy) -> Iterator[Change]:
    levels = ("", *policy.levels, NODE, ISLAND)
    if ask.shape.required in levels[1:]:
        for level in reversed(levels[: levels.index(ask.shape.required)]):
            yield _reshaped(ask, "topology", level or "anywhere", required=level)


def _shorter(ask: Ask) -> Iterator[Change]:
    for limit_s in LIMITS:
        if limit_s < ask.limit_s:
            yield Change("limit_s", str(limit_s), replace(ask, limit_s=limit_s))


def _smaller(ask: Ask) -> Iterator[Change]:
    """Each smaller size, the largest first: fewer replicas, then fewer GPUs, with their part of CPU and memory."""
    shape = ask.shape
    for replicas in range(shape.replicas - 1, 0, -1):
        yield _reshaped(ask, "replicas", replicas, replicas=replicas)
    for gpus in range(shape.gpus - 1, 0, -1):
        yield _with_gpus(ask, shape, gpus)
    for thousandths in (750, 500, 250, 125):
        if thousandths < shape.thousandths:
            yield _reshaped(ask, "thousandths", thousandths, thousandths=thousandths)


def _with_gpus(ask: Ask, shape: Shape, gpus: int) -> Change:
    return _reshaped(
        ask, "gpus", gpus, gpus=gpus,
        cpu_millis=shape.cpu_millis * gpus // shape.gpus, memory_mib=shape.memory_mib * gpus // shape.gpus,
    )  # fmt: skip


def _other_tiers(ask: Ask, tiers: Sequence[str]) -> Iterator[Change]:
    for tier in tiers:
        if tier != ask.tier:
            yield Change("tier", tier, replace(ask, tier=tier))
