"""A place for one replica: the tightest node for whole cards, a card that is already in use for a part of one, the node
with the least free CPU for work without GPUs. Ties end in the id of the node, then in the place of the card."""

from bisect import bisect_left

from scheduling.core.cluster import Part, Piece
from scheduling.core.ledger import Group, Host
from scheduling.core.places.cards import bits, in_islands, left_of, part_of
from scheduling.core.places.filters import Options, Want
from scheduling.core.places.openings import Openings
from scheduling.core.scores import Scores, free_of


def one_replica(openings: Openings, scores: Scores | None, want: Want, groups: Options) -> Part | None:
    """Where it would go now; nothing is taken. With `scores`, to where it adds least to fragmentation."""
    shape = want.shape
    if scores is not None and (shape.gpus or shape.thousandths):
        return _least_fragmenting(openings, scores, want, groups)
    if shape.gpus:
        return _whole_cards(openings, want, groups)
    if shape.wants_gpu:
        return _part_of_a_card(openings, want, groups)
    return _cpu_only(openings, scores, want, groups)


# -------------------------------------------------------------------------------------------- by fragmentation
def _least_fragmenting(openings: Openings, scores: Scores, want: Want, groups: Options) -> Part | None:
    """The first node, by how little of use to others it costs, on which nothing else stands against it; whole cards go
    where one NVLink island holds them, as in `_whole_cards`."""
    allowed = {id(group): cards for group, cards in groups}
    apart: tuple[Host, int] | None = None
    for _, _, host_id, left in scores.ranked(want.shape, openings.ledger):
        host = openings.ledger.hosts[host_id]
        suitable = allowed.get(id(host.group), 0)
        if not suitable:
            continue
        if want.shape.gpus:
            cards = openings.cards_for(host, want, suitable)
            if cards and in_islands(host.group, cards, want.shape.gpus):
                return part_of(host, want.shape, cards)
            if cards and apart is None:
                apart = host, cards
            continue
        # The card that the score means first; another where that one is somebody else's.
        free, cards_here = free_of(host), host.node.gpus
        for place in sorted(
            bits(suitable), key=lambda place: (free[place] != left, free[place], bool(cards_here[place].layout), place)
        ):
            piece = openings.on_card(want, host, place, host.cards[place])
            if piece is not None and openings.lasts(host, want, place):
                return Part(host_id, (piece,), want.shape.cpu_millis, want.shape.memory_mib)
    return part_of(apart[0], want.shape, apart[1]) if apart is not None else None


# -------------------------------------------------------------------------------------------- whole cards
def _whole_cards(openings: Openings, want: Want, groups: Options) -> Part | None:
    """The first node, by free cards and then by id, that has enough of everything: of those where one NVLink island
    holds the whole ask, else of all.

    The island comes before tightness because it is certain and lasts: cards that are not linked slow the job down for
    all of its run, while a hole that is kept large is of use only if somebody comes who needs it. Among nodes that are
    alike in it packing is as exact as ever, and where all cards of a node are linked nothing changes.
    """
    gpus = want.shape.gpus
    if gpus == 1 or all(len(group.islands) == 1 for group, _ in groups):
        return _tightest_node(openings, want, groups, together=False)
    linked = [(group, cards) for group, cards in groups if in_islands(group, cards, gpus)]
    together = _tightest_node(openings, want, linked, together=True)
    return together or _tightest_node(openings, want, groups, together=False)


def _tightest_node(openings: Openings, want: Want, groups: Options, *, together: bool) -> Part | None:
    """`together`: only where one island holds the ask."""
    hosts, gpus = openings.ledger.hosts, want.shape.gpus
    most = max((group.size for group, _ in groups), default=0)
    for count in range(gpus, most + 1):
        best: Host | None = None
        best_cards = 0
        for group, suitable in groups:
            if count > group.size:
                continue
            for host_id in group.buckets[count]:
                if best is not None and host_id > best.id:
                    break
                cards = openings.cards_for(hosts[host_id], want, suitable)
                if cards and (not together or in_islands(group, cards, gpus)):
                    best, best_cards = hosts[host_id], cards
                    break
        if best is not None:
            return part_of(best, want.shape, best_cards)
    return None


# -------------------------------------------------------------------------------------------- parts of a card
def _part_of_a_card(openings: Openings, want: Want, groups: Options) -> Part | None:
    """On the card in use that keeps least; else an instance on a free card that is cut, then on one that is not, a
    share the other way round: for it the cut would have to go."""
    found = _on_cut_card(openings, want, groups, in_use=True)
    for on_free_card in (_on_uncut_card, _on_cut_card) if want.shape.thousandths else (_on_cut_card, _on_uncut_card):
        found = found or on_free_card(openings, want, groups)
    return Part(found[0].id, (found[1],), want.shape.cpu_millis, want.shape.memory_mib) if found else None


def _on_cut_card(openings: Openings, want: Want, groups: Options, *, in_use: bool = False) -> tuple[Host, Piece] | None:
    allowed = {id(group): cards for group, cards in groups}
    best: tuple[tuple[int, ...], Host, Piece] | None = None
    for host_id, place in openings.ledger.cut:
        host = openings.ledger.hosts[host_id]
        if bool(host.cards[place]) is not in_use:
            continue
        if not host.node.accepts or not allowed.get(id(host.group), 0) >> place & 1:
            continue
        piece = openings.on_card(want, host, place, host.cards[place])
        if piece is None or not openings.lasts(host, want, place):
            continue
        key = (left_of(host.cards[place]), host.free.bit_count(), host_id, place)
        if best is None or key < best[0]:
            best = (key, host, piece)
    return best[1:] if best is not None else None


def _on_uncut_card(openings: Openings, want: Want, groups: Options) -> tuple[Host, Piece] | None:
    for count in range(1, max((group.size for group, _ in groups), default=0) + 1):
        ids = sorted((i, cards) for group, cards in groups if count <= group.size for i in group.buckets[count])
        for host_id, suitable in ids:
            host = openings.ledger.hosts[host_id]
            for place in bits(host.free & suitable):
                if host.node.gpus[place].layout:
                    continue
                piece = openings.on_card(want, host, place, host.cards[place])
                if piece is not None and openings.lasts(host, want, place):
                    return host, piece
    return None


# -------------------------------------------------------------------------------------------- CPU only
def _cpu_only(openings: Openings, scores: Scores | None, want: Want, groups: Options) -> Part | None:
    """Nodes without GPUs first, the tightest by CPU. On a GPU node each free card keeps its part of CPU and memory; of
    those with more, the tightest, or with `scores` the one whose cards lose least of their use."""
    bare = [option for option in groups if not option[0].size]
    with_gpus = [option for option in groups if option[0].size]
    found = _tightest(openings, want, bare)
    if found is None and with_gpus:
        found = _least_stranding(openings, scores, want, with_gpus) if scores else _tightest(openings, want, with_gpus)
    return None if found is None else Part(found, (), want.shape.cpu_millis, want.shape.memory_mib)


def _tightest(openings: Openings, want: Want, groups: Options) -> int | None:
    firsts = (_first_spare(openings, group, want) for group, _ in groups)
    return min((first for first in firsts if first is not None), default=(0, None))[1]


def _least_stranding(openings: Openings, scores: Scores, want: Want, groups: Options) -> int | None:
    allowed = {id(group) for group, _ in groups}
    for _, _, host_id, _ in scores.ranked(want.shape, openings.ledger):
        host = openings.ledger.hosts[host_id]
        if id(host.group) in allowed and _has_spare(openings, host, want):
            return host_id
    return None


def _has_spare(openings: Openings, host: Host, want: Want) -> bool:
    cpu, memory = openings.spare(host, want)
    return cpu >= want.shape.cpu_millis and memory >= want.shape.memory_mib


def _first_spare(openings: Openings, group: Group, want: Want) -> tuple[int, int] | None:
    """(free CPU, id) of the tightest node of the group that has room for work without GPUs."""
    by_cpu = openings.ledger.by_cpu(group)
    for cpu, host_id in by_cpu[bisect_left(by_cpu, (want.shape.cpu_millis, 0)) :]:
        if _has_spare(openings, openings.ledger.hosts[host_id], want):
            return cpu, host_id
    return None
