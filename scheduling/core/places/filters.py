"""What is looked for, and which nodes and cards could ever hold it, whatever is free now."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from scheduling.core import mig
from scheduling.core.cluster import Need, Shape
from scheduling.core.decisions import Lack
from scheduling.core.ledger import Group, Host
from scheduling.core.places.cards import in_islands

#: the two narrowest levels of the topology, below those of `Policy.levels`: one node, and the cards of a node that
#: reach each other over NVLink
NODE, ISLAND = "node", "island"
#: groups of nodes that are alike, each with the bits of the cards that suit the ask
Options = list[tuple[Group, int]]


class Fits(NamedTuple):
    """So many replicas fit on this node, on its `suitable` cards (bits). `well` of them with nothing against it: whole
    cards of one NVLink island, parts of cards that are in use already."""

    replicas: int
    host: Host
    suitable: int
    well: int


Fitting = list[Fits]


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
    rank of model, the liked ones first, and a last one of all ranks together where that holds more than each alone."""
    ranked: dict[int, Options] = {}
    joined: Options = []
    for group in groups:
        if group.pool == pool and _offers(group, shape):
            together = 0
            for rank, suitable in _suitable(group, shape):
                together |= suitable
                cards = linked(group, suitable, shape)
                if cards.bit_count() >= shape.gpus:
                    ranked.setdefault(rank, []).append((group, cards))
            together = linked(group, together, shape)
            if together and together.bit_count() >= shape.gpus:
                joined.append((group, together))
    options = [ranked[rank] for rank in sorted(ranked)]
    alone = {(id(group), cards) for option in options for group, cards in option}
    mixes = any((id(group), cards) not in alone for group, cards in joined)
    if (shape.replicas > 1 and (mixes or len(options) > 1)) or (shape.gpus > 1 and mixes):
        options.append(joined)
    return options


def by_island(groups: Options, shape: Shape) -> list[Options]:
    """The options of work that must lie in one NVLink island as a whole: one list for each island that a node can have.
    All others have one list."""
    if not (shape.required == ISLAND and shape.wants_gpu):
        return [groups]
    lists: list[Options] = []
    for number in range(max((len(group.islands) for group, _ in groups), default=0)):
        inside = [(group, cards & group.islands[number]) for group, cards in groups if number < len(group.islands)]
        lists.append([(group, cards) for group, cards in inside if cards.bit_count() >= max(1, shape.gpus)])
    return lists


def linked(group: Group, cards: int, shape: Shape) -> int:
    """Those of the cards that lie in an island that could hold the whole ask, where it must lie in one."""
    if not (shape.required == ISLAND and shape.gpus):
        return cards
    return in_islands(group, cards, shape.gpus * shape.replicas)


def merged(options: Iterable[Options]) -> Options:
    """All lists as one, each group once."""
    groups: dict[int, tuple[Group, int]] = {}
    for group, cards in (option for listed in options for option in listed):
        groups[id(group)] = group, cards | groups.get(id(group), (group, 0))[1]
    return list(groups.values())


class Offer:
    """What nodes could offer at best to all whose asks have one form: the groups of each pool with their suitable
    cards. There is one for each form and set of groups."""

    __slots__ = ("options",)

    def __init__(self, options: tuple[tuple[str, Options], ...]) -> None:
        self.options = options


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
    """(rank of the model, bits of the cards) for each acceptable model of the group."""
    if not shape.wants_gpu:
        yield 0, 0
        return
    if not (shape.models or shape.mig or shape.gpu_memory_mib):  # any card will do, and most jobs ask for any
        cards = (1 << group.size) - 1 & ~group.fixed
        if cards:
            yield 0, cards
        return
    ranked: dict[int, int] = {}
    for place, gpu in enumerate(group.cards):
        if (not shape.models or gpu.model in shape.models) and _serves(group, place, shape):
            rank = shape.models.index(gpu.model) if shape.models else 0
            ranked[rank] = ranked.get(rank, 0) | 1 << place
    yield from ranked.items()


def _serves(group: Group, place: int, shape: Shape) -> bool:
    """A MIG instance as it is asked for; or all of the card, with enough memory."""
    if shape.mig:
        return bool(profiles_of(group, place, shape))
    return not group.fixed >> place & 1 and group.cards[place].memory_mib >= shape.gpu_memory_mib


def profiles_of(group: Group, place: int, shape: Shape) -> tuple[mig.Profile, ...]:
    """The profiles by which this card could serve an ask for an instance, smallest first: where it stays cut, those
    that it is cut into."""
    gpu = group.cards[place]
    profiles = mig.wanted(gpu.model, shape.mig, shape.gpu_memory_mib)
    if group.cuttable >> place & 1:
        return profiles
    names = {instance.profile for instance in gpu.layout}
    return tuple(profile for profile in profiles if profile.name in names)


def lacking(groups: Iterable[Group], shape: Shape) -> Lack:
    """For a shape that no pool has an option for: the first filter that leaves none of the groups."""
    left = [group for group in groups if not shape.pools or group.pool in shape.pools]
    if not left:
        return Lack.POOL
    left = [group for group in left if all(_satisfies(group.labels, need) for need in shape.needs)]
    if not left:
        return Lack.LABEL
    if shape.wants_gpu:
        cards = [(group, place) for group in left for place in range(group.size)]
        if not cards:
            return Lack.GPU
        cards = [
            (group, place) for group, place in cards if not shape.models or group.cards[place].model in shape.models
        ]
        if not cards:
            return Lack.MODEL
        if not shape.mig and all(group.fixed >> place & 1 for group, place in cards):
            return Lack.CUT
        if not any(_serves(group, place, shape) for group, place in cards):
            return Lack.MIG if shape.mig else Lack.GPU_MEMORY
        if not any(sum(cards.bit_count() for _, cards in _suitable(group, shape)) >= shape.gpus for group in left):
            return Lack.COUNT
        if not any(linked(group, sum(cards for _, cards in _suitable(group, shape)), shape) for group in left):
            return Lack.ISLAND
    return Lack.SIZE
