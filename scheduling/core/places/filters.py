"""What is looked for, and which nodes and cards could ever hold it, whatever is free now."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scheduling.core import mig
from scheduling.core.cluster import Gpu, Need, Shape
from scheduling.core.decisions import Lack
from scheduling.core.ledger import Group, Host

#: groups of nodes that are alike, each with the bits of the cards that suit the ask
Options = list[tuple[Group, int]]
#: (replicas that fit, node, bits of its suitable cards)
Fitting = list[tuple[int, Host, int]]


@dataclass(frozen=True, slots=True)
class Want:
    """What is looked for: a job's shape in one pool, to be held from now `until` its limit is over."""

    job: int
    team: int
    shape: Shape
    pool: str
    until: int


def options_among(groups: Iterable[Group], shape: Shape, pool: str) -> list[Options]:
    """The groups of a pool that could hold a replica on an empty node, with their suitable cards; one list for each
    rank of model, the liked ones first."""
    ranked: dict[int, Options] = {}
    for group in groups:
        if group.pool == pool and _offers(group, shape):
            for rank, cards in _suitable(group, shape):
                ranked.setdefault(rank, []).append((group, cards))
    return [ranked[rank] for rank in sorted(ranked)]


def _offers(group: Group, shape: Shape) -> bool:
    """Labels, and one replica on the empty node."""
    if group.cpu_millis < shape.cpu_millis or group.memory_mib < shape.memory_mib or group.size < shape.gpus:
        return False
    return all(_satisfies(group.labels, need) for need in shape.needs)


def _satisfies(labels: dict[str, str], need: Need) -> bool:
    value = labels.get(need.key)
    has = value is not None and (not need.values or value in need.values)
    return has != need.absent


def _suitable(group: Group, shape: Shape) -> Iterator[tuple[int, int]]:
    """(rank of the model, bits of the cards) for each acceptable model of the group that has enough cards."""
    if not shape.wants_gpu:
        yield 0, 0
        return
    if not (shape.models or shape.mig or shape.gpu_memory_mib):  # any card will do, and most jobs ask for any
        if group.size:
            yield 0, (1 << group.size) - 1
        return
    ranked: dict[int, int] = {}
    for place, gpu in enumerate(group.cards):
        if (not shape.models or gpu.model in shape.models) and _large_enough(gpu, shape):
            rank = shape.models.index(gpu.model) if shape.models else 0
            ranked[rank] = ranked.get(rank, 0) | 1 << place
    for rank, cards in ranked.items():
        if cards.bit_count() >= max(1, shape.gpus):
            yield rank, cards


def _large_enough(gpu: Gpu, shape: Shape) -> bool:
    """Memory, or a MIG instance as it is asked for."""
    if shape.mig:
        return gpu.mig and bool(mig.wanted(gpu.model, shape.mig, shape.gpu_memory_mib))
    return gpu.memory_mib >= shape.gpu_memory_mib


def lacking(groups: Iterable[Group], shape: Shape) -> Lack:
    """For a shape that no pool has an option for: the first filter that leaves none of the groups."""
    left = [group for group in groups if not shape.pools or group.pool in shape.pools]
    if not left:
        return Lack.POOL
    left = [group for group in left if all(_satisfies(group.labels, need) for need in shape.needs)]
    if not left:
        return Lack.LABEL
    if shape.wants_gpu:
        cards = [gpu for group in left for gpu in group.cards]
        if not cards:
            return Lack.GPU
        cards = [gpu for gpu in cards if not shape.models or gpu.model in shape.models]
        if not cards:
            return Lack.MODEL
        if not any(_large_enough(gpu, shape) for gpu in cards):
            return Lack.MIG if shape.mig else Lack.GPU_MEMORY
        if not any(group.size >= shape.gpus and any(_suitable(group, shape)) for group in left):
            return Lack.COUNT
    return Lack.SIZE
