"""The cards of one node: which whole ones to take together, and what of a card that is shared or cut is still free."""

from collections.abc import Iterator

from scheduling.core import mig
from scheduling.core.cluster import Gpu, Instance, Part, Piece, Shape
from scheduling.core.ledger import Card, Group, Host
from scheduling.core.units import GPU_UNITS, fraction


def bits(mask: int) -> Iterator[int]:
    """The places of the bits that are set, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def part_of(host: Host, shape: Shape, cards: int) -> Part:
    """One replica of whole cards, chosen among `cards`."""
    gpus = host.node.gpus
    pieces = tuple(Piece(gpu=gpus[place].id, units=GPU_UNITS) for place in choose_cards(host, cards, shape.gpus))
    return Part(node=host.id, pieces=pieces, cpu_millis=shape.cpu_millis, memory_mib=shape.memory_mib)


def choose_cards(host: Host, cards: int, count: int) -> list[int]:
    """`count` of these cards: of one NVLink island where one has enough, the one that must be cut anew least, then the
    smallest; else from the largest islands first. Inside an island uncut cards come first. Ties go by place."""
    places = list(bits(cards))
    if len(places) == count:
        return places
    gpus = host.node.gpus
    islands: dict[int, list[int]] = {}
    for place in sorted(places, key=lambda p: (bool(gpus[p].layout), p)):
        islands.setdefault(gpus[place].island, []).append(place)
    enough = [members for members in islands.values() if len(members) >= count]
    if enough:
        return sorted(min(enough, key=lambda m: (sum(bool(gpus[p].layout) for p in m[:count]), len(m), m[0]))[:count])
    chosen: list[int] = []
    for members in sorted(islands.values(), key=lambda m: (-len(m), m[0])):
        chosen += members[: count - len(chosen)]
    return sorted(chosen)


def in_islands(group: Group, cards: int, count: int) -> int:
    """Those of the cards that lie in an NVLink island with so many of them; 0: no island has so many."""
    islands = group.islands
    if len(islands) == 1:
        return cards if cards.bit_count() >= count else 0
    return sum(cards & island for island in islands if (cards & island).bit_count() >= count)


def freshness(host: Host, place: int, shape: Shape) -> tuple[bool, bool]:
    """How much a part would open that was whole before, least first: a card that is in use already; else for an
    instance one that is cut, for a share one that is not, which no recut has to serve first."""
    return (not host.cards[place], bool(host.node.gpus[place].layout) != bool(shape.mig))


def left_of(card: Card) -> int:
    """Units of a card that nobody holds."""
    return GPU_UNITS - sum(piece.units for _, piece in card)


def share_of(card: Card, gpu: Gpu, shape: Shape) -> Piece | None:
    """The share that the ask would hold of this card, beside the other shares on it. Instances that nobody holds make
    way for it."""
    if any(piece.whole or piece.profile for _, piece in card):
        return None
    used = sum(piece.thousandths for _, piece in card)
    memory = shape.gpu_memory_mib or gpu.memory_mib * shape.thousandths // 1000
    held = sum(piece.memory_mib for _, piece in card)
    if used + shape.thousandths > 1000 or (gpu.memory_mib and held + memory > gpu.memory_mib):
        return None
    return Piece(gpu.id, fraction(shape.thousandths), thousandths=shape.thousandths, memory_mib=memory)


def instance_on(card: Card, gpu: Gpu, shape: Shape, *, recut: bool) -> Piece | None:
    """A free instance that satisfies the ask, else, with `recut`, one that can be cut from parts that nobody holds."""
    if any(not piece.profile for _, piece in card):
        return None
    held = tuple(sorted((Instance(p.profile, p.start) for _, p in card), key=lambda i: (i.start, i.profile)))
    profiles = mig.wanted(gpu.model, shape.mig, shape.gpu_memory_mib)
    for profile in profiles:
        for instance in gpu.layout:
            # What lies across a cut that an earlier job of this plan gets is gone, though the layout still has it.
            if instance.profile == profile.name and mig.legal(gpu.model, (*held, instance)):
                return Piece(gpu.id, profile.units, profile.name, instance.start, memory_mib=profile.memory_mib)
    if not recut:
        return None
    for profile in profiles:
        for start in mig.starts(gpu.model, profile, held):
            return Piece(gpu.id, profile.units, profile.name, start, memory_mib=profile.memory_mib)
    return None
