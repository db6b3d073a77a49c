"""Changes that would start a job now, each proven: the changed snapshot is planned, and the job must get its place.

A change is something its owner, or his team, may really do: ask for less, accept another pool, model or a looser
topology, run shorter than the next reservation, or use another tier. "Job X ends at 14:20" is a fact, not a change.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from scheduling.core.cluster import Ask, Cluster, Shape
from scheduling.core.plan import Planner
from scheduling.core.policy import Policy

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
    """
    prover = Prover(cluster, policy, now)
    ask = prover.planner.queue.asks.get(job)
    if ask is None:
        return ()
    found = []
    for candidates in (
        _other_pools(ask, pools or prover.pools), _other_models(ask, prover.models), _softer(ask, policy),
        _shorter(ask), _smaller(ask), _other_tiers(ask, tiers),
    ):  # fmt: skip
        change = next((change for change in candidates if prover.starts(change.ask)), None)
        if change is not None:
            found.append(change)
    return tuple(found)


class Prover:
    """Plans the snapshot with one ask changed. The planner is kept; only that ask is replaced and put back."""

    def __init__(self, cluster: Cluster, policy: Policy, now: int) -> None:
        self.planner, self.now = Planner(policy, explain=False), now
        self.planner.load(cluster)
        self.pools = tuple(sorted({node.pool for node in cluster.nodes}))
        self.models = tuple(sorted({gpu.model for node in cluster.nodes for gpu in node.gpus}))

    def starts(self, ask: Ask) -> bool:
        """Would the job be placed in this very cycle if it asked for that?"""
        original = self.planner.queue.asks[ask.job]
        self.planner.submit(ask)
        outcome = self.planner.plan(self.now)
        self.planner.submit(original)
        return any(place.job == ask.job for place in outcome.places)


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
    levels = ("", *policy.levels, "node")
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
