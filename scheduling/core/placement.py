"""Which slots: all replicas or none, where the largest holes survive.

One replica goes to the node that keeps the fewest free cards (best fit on cards, as KAI packs). A gang goes to the
smallest topology domain that holds it (node, then the narrowest level, and so on), within that domain to as few nodes
as possible (Kueue's and KAI's rule: smallest domain that fits, then the fullest use of it). Shares and MIG instances
go to cards that are already cut. Every choice is total: ties end in the id.

Long because whole cards, parts of cards, CPU and gangs are filtered and filled by the same few steps.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from scheduling.core import mig
from scheduling.core.cluster import Gpu, Instance, Need, Part, Piece, Shape
from scheduling.core.ledger import Card, Group, Host, Ledger
from scheduling.core.policy import Policy
from scheduling.core.promises import Promises
from scheduling.core.scores import Scores, free_of
from scheduling.core.units import GPU_UNITS, fraction

NODE = "node"
Options = list[tuple[Group, int]]
Fitting = list[tuple[int, Host, int]]


@dataclass(frozen=True, slots=True)
class Want:
    """What is looked for: a job's shape in one pool, to be held from now `until` its limit is over."""

    job: int
    team: int
    shape: Shape
    pool: str
    until: int


class Search:
    """Finds places in a ledger without breaking a promise. `team_of` says whose a job is: a shared card serves one
    team."""

    def __init__(self, ledger: Ledger, promises: Promises, policy: Policy, team_of: dict[int, int]) -> None:
        self.ledger, self.promises, self.policy, self.team_of = ledger, promises, policy, team_of
        self.scores: Scores | None = None
        self._options: dict[tuple[Shape, str], list[Options]] = {}

    def forget_options(self) -> None:
        """The groups changed: nodes came, went or were labelled anew."""
        self._options.clear()

    # ---------------------------------------------------------------------------------------- 1. filter
    def options(self, shape: Shape, pool: str) -> list[Options]:
        """The groups that could ever hold a replica, with the bits of the cards that suit it; the liked models
        first."""
        found = self._options.get((shape, pool))
        if found is None:
            ranked: dict[int, Options] = {}
            for group in self.ledger.groups.values():
                if group.pool == pool and _offers(group, shape):
                    for rank, cards in _suitable(group, shape):
                        ranked.setdefault(rank, []).append((group, cards))
            found = [ranked[rank] for rank in sorted(ranked)]
            self._options[shape, pool] = found
        return found

    # ---------------------------------------------------------------------------------------- 2. place
    def place(self, want: Want) -> tuple[Part, ...] | None:
        """Take a place for every replica, or take nothing and answer None."""
        for groups in self.options(want.shape, want.pool):
            if want.shape.replicas > 1:
                parts = self._gang(want, groups)
                if parts is not None:
                    return parts
            elif (part := self._one(want, groups)) is not None:
                self.ledger.take(want.job, part)
                return (part,)
        return None

    def _one(self, want: Want, groups: Options) -> Part | None:
        if self.scores is not None and (want.shape.gpus or want.shape.thousandths):
            return self._least_fragmenting(self.scores, want, groups)
        if want.shape.gpus:
            return self._whole(want, groups)
        if want.shape.wants_gpu:
            return self._slice(want, groups)
        return self._cpu_only(want, groups)

    def _least_fragmenting(self, scores: Scores, want: Want, groups: Options) -> Part | None:
        """The first node, by how little of use to others it costs, on which nothing else stands against it."""
        suitable = {i: cards for group, cards in groups for bucket in group.buckets for i in bucket}
        hosts = self.ledger.hosts
        for _, _, host_id, left in scores.ranked(want.shape, (hosts[i] for i in suitable)):
            host = hosts[host_id]
            if want.shape.gpus:
                cards = self.cards_for(host, want, suitable[host_id])
                if cards:
                    return part_of(host, want.shape, cards)
                continue
            # The card that the score means first; another where that one is somebody else's.
            free = free_of(host)
            for place in sorted(bits(suitable[host_id]), key=lambda place: (free[place] != left, free[place], place)):
                piece = self.on_card(want, host, place, host.cards[place])
                if piece is not None and self._lasts(host, want, place):
                    return Part(host_id, (piece,), want.shape.cpu_millis, want.shape.memory_mib)
        return None

    # ---------------------------------------------------------------------------------------- whole cards
    def _whole(self, want: Want, groups: Options) -> Part | None:
        """The first node, by free cards and then by id, that has enough of everything."""
        most = max((group.size for group, _ in groups), default=0)
        for count in range(want.shape.gpus, most + 1):
            best: Host | None = None
            best_cards = 0
            for group, suitable in groups:
                if count > group.size:
                    continue
                for host_id in group.buckets[count]:
                    if best is not None and host_id > best.id:
                        break
                    cards = self.cards_for(self.ledger.hosts[host_id], want, suitable)
                    if cards:
                        best, best_cards = self.ledger.hosts[host_id], cards
                        break
            if best is not None:
                return part_of(best, want.shape, best_cards)
        return None

    def cards_for(self, host: Host, want: Want, suitable: int) -> int:
        """The free cards that a replica may use here until then, as bits; 0 if it does not fit."""
        shape = want.shape
        if host.cpu < shape.cpu_millis or host.memory < shape.memory_mib:
            return 0
        cards = host.free & suitable
        if host.id in self.promises.hosts:
            blocked, cpu, memory = self.promises.limits(host, want.team, want.until)
            cards &= ~blocked
            if cpu < shape.cpu_millis or memory < shape.memory_mib:
                return 0
        return cards if cards.bit_count() >= shape.gpus else 0

    # ---------------------------------------------------------------------------------------- parts of a card
    def _slice(self, want: Want, groups: Options) -> Part | None:
        """A share or a MIG instance: on the cut card that keeps least, else on a card of the tightest node."""
        allowed = {id(group): cards for group, cards in groups}
        best: tuple[tuple[int, ...], Host, Piece] | None = None
        for host_id, place in self.ledger.cut:
            host = self.ledger.hosts[host_id]
            if not host.node.accepts or not allowed.get(id(host.group), 0) >> place & 1:
                continue
            piece = self.on_card(want, host, place, host.cards[place])
            if piece is None or not self._lasts(host, want, place):
                continue
            held = bool(host.cards[place])
            key = (not held, left_of(host.cards[place]), host.free.bit_count(), host_id, place)
            if best is None or key < best[0]:
                best = (key, host, piece)
        if best is None:
            best = self._on_fresh_card(want, groups)
        if best is None:
            return None
        return Part(best[1].id, (best[2],), want.shape.cpu_millis, want.shape.memory_mib)

    def _on_fresh_card(self, want: Want, groups: Options) -> tuple[tuple[int, ...], Host, Piece] | None:
        for count in range(1, max((group.size for group, _ in groups), default=0) + 1):
            ids = sorted((i, cards) for group, cards in groups if count <= group.size for i in group.buckets[count])
            for host_id, suitable in ids:
                host = self.ledger.hosts[host_id]
                for place in bits(host.free & suitable):
                    piece = self.on_card(want, host, place, host.cards[place])
                    if piece is not None and self._lasts(host, want, place):
                        return ((), host, piece)
        return None

    def on_card(self, want: Want, host: Host, place: int, card: Card) -> Piece | None:
        """The piece of this card that the ask would hold beside what `card` says is held, if there is one."""
        gpu = host.node.gpus[place]
        if want.shape.thousandths:
            if gpu.layout or any(self.team_of.get(job) != want.team for job, _ in card):
                return None  # MPS serves one UID: another team's share means another card
            return _share_of(card, gpu, want.shape)
        return instance_on(card, gpu, want.shape, recut=self.policy.recut)

    def _lasts(self, host: Host, want: Want, place: int) -> bool:
        shape = want.shape
        if host.cpu < shape.cpu_millis or host.memory < shape.memory_mib:
            return False
        if host.id not in self.promises.hosts:
            return True
        blocked, cpu, memory = self.promises.limits(host, want.team, want.until)
        return not blocked >> place & 1 and cpu >= shape.cpu_millis and memory >= shape.memory_mib

    # ---------------------------------------------------------------------------------------- CPU only
    def _cpu_only(self, want: Want, groups: Options) -> Part | None:
        """Nodes without GPUs first, the tightest by CPU. On a GPU node each free card keeps its part of CPU and
        memory."""
        shape = want.shape
        for has_gpus in (False, True):
            found = [
                first
                for group, _ in groups
                if bool(group.size) is has_gpus and (first := self._first_spare(group, want)) is not None
            ]
            if found:
                return Part(min(found)[1], (), shape.cpu_millis, shape.memory_mib)
        return None

    def _first_spare(self, group: Group, want: Want) -> tuple[int, int] | None:
        """(free CPU, id) of the tightest node of the group that has room for work without GPUs."""
        by_cpu = self.ledger.by_cpu(group)
        for cpu, host_id in by_cpu[bisect_left(by_cpu, (want.shape.cpu_millis, 0)) :]:
            spare_cpu, spare_memory = self.spare(self.ledger.hosts[host_id], want)
            if spare_cpu >= want.shape.cpu_millis and spare_memory >= want.shape.memory_mib:
                return cpu, host_id
        return None

    def spare(self, host: Host, want: Want) -> tuple[int, int]:
        """CPU and memory that work without GPUs may take here."""
        cpu, memory = host.cpu, host.memory
        if host.id in self.promises.hosts:
            _, cpu, memory = self.promises.limits(host, want.team, want.until)
        kept_cpu, kept_memory = self.kept(host, host.free)
        return cpu - kept_cpu, memory - kept_memory

    def kept(self, host: Host, free: int) -> tuple[int, int]:
        """CPU and memory that stay with these free cards, so that work without GPUs does not strand them."""
        if not host.group.size:
            return 0, 0
        share = free.bit_count() * self.policy.cpu_kept_percent
        whole = 100 * host.group.size
        return host.node.cpu_millis * share // whole, host.node.memory_mib * share // whole

    # ---------------------------------------------------------------------------------------- back to its own
    def is_free(self, parts: tuple[Part, ...], team: int, until: int) -> bool:
        """May these very parts be held from now until then? (A suspended job comes back to its own cards.)"""
        for part in parts:
            host = self.ledger.hosts.get(part.node)
            if host is None or not host.node.accepts:
                return False
            blocked, cpu, memory = 0, host.cpu, host.memory
            if host.id in self.promises.hosts:
                blocked, cpu, memory = self.promises.limits(host, team, until)
            cards = host.free & ~blocked
            if cpu < part.cpu_millis or memory < part.memory_mib:
                return False
            if not all(cards >> self.ledger.where[piece.gpu][1] & 1 for piece in part.pieces):
                return False
        return True

    # ---------------------------------------------------------------------------------------- gangs
    def _gang(self, want: Want, groups: Options) -> tuple[Part, ...] | None:
        fitting = self.capacities(want, groups)
        if sum(count for count, _, _ in fitting) < want.shape.replicas:
            return None
        for domain in self.domains(want.shape, fitting):
            parts = self._fill(want, domain)
            if parts is not None:
                return parts
        return None

    def capacities(self, want: Want, groups: Options) -> Fitting:
        """(replicas that fit, node, its suitable cards) for every node that has room for at least one."""
        shape = want.shape
        found: Fitting = []
        for group, suitable in groups:
            for count in range(shape.gpus or (1 if shape.wants_gpu else 0), group.size + 1):
                for host_id in group.buckets[count]:
                    host = self.ledger.hosts[host_id]
                    fits = self._fit_count(host, want, suitable)
                    if fits:
                        found.append((fits, host, suitable))
        if shape.wants_gpu and not shape.gpus:
            found = self._with_cut_cards(shape, groups)
        found.sort(key=lambda entry: entry[1].id)
        return found

    def _fit_count(self, host: Host, want: Want, suitable: int) -> int:
        shape = want.shape
        if shape.gpus:
            cards = self.cards_for(host, want, suitable)
            if not cards:
                return 0
            cpu, memory = host.cpu, host.memory
            if host.id in self.promises.hosts:
                _, cpu, memory = self.promises.limits(host, want.team, want.until)
            count = cards.bit_count() // shape.gpus
        else:
            cpu, memory = self.spare(host, want)
            count = shape.replicas
        if shape.cpu_millis:
            count = min(count, cpu // shape.cpu_millis)
        if shape.memory_mib:
            count = min(count, memory // shape.memory_mib)
        return max(0, count)

    def _with_cut_cards(self, shape: Shape, groups: Options) -> Fitting:
        """For gangs of slices any accepting node may help; how many fit is found by trying, one replica at a time."""
        return [
            (shape.replicas, self.ledger.hosts[host_id], suitable)
            for group, suitable in groups
            for bucket in group.buckets
            for host_id in bucket
        ]

    def domains(self, shape: Shape, fitting: Fitting) -> Iterator[Fitting]:
        """Sets of nodes to try, smallest domain first; never wider than the required level."""
        levels = (*self.policy.levels, NODE)
        widest = levels.index(shape.required) if shape.required in levels else -1
        for depth in range(len(levels) - 1, widest - 1, -1):
            inside: dict[tuple[str, ...], Fitting] = {}
            if depth == -1:
                inside[()] = fitting
            else:
                for entry in fitting:
                    key = domain_of(entry[1], depth, len(levels))
                    if key is not None:
                        inside.setdefault(key, []).append(entry)
            holding = [
                (sum(count for count, _, _ in entries), key)
                for key, entries in inside.items()
                if sum(count for count, _, _ in entries) >= shape.replicas
            ]
            for _, key in sorted(holding):
                yield inside[key]

    def _fill(self, want: Want, domain: Fitting) -> tuple[Part, ...] | None:
        """Replica by replica: the tightest node that takes all the rest, else the one that takes most."""
        shape = want.shape
        mark = self.ledger.checkpoint()
        parts: list[Part] = []
        rest = {entry[1].id: entry for entry in domain}
        while len(parts) < shape.replicas and rest:
            missing = shape.replicas - len(parts)
            enough = [entry for entry in rest.values() if entry[0] >= missing]
            chosen = (
                min(enough, key=lambda e: (e[0], e[1].free.bit_count(), e[1].id))
                if enough
                else max(rest.values(), key=lambda e: (e[0], -e[1].id))
            )
            del rest[chosen[1].id]
            for _ in range(min(missing, chosen[0])):
                part = self.one_here(want, chosen[1], chosen[2])
                if part is None:
                    break
                self.ledger.take(want.job, part)
                parts.append(part)
        if len(parts) < shape.replicas:
            self.ledger.rollback(mark)
            return None
        self.ledger.keep(mark)
        return tuple(parts)

    def one_here(self, want: Want, host: Host, suitable: int) -> Part | None:
        """One replica on this very node."""
        shape = want.shape
        if shape.gpus:
            cards = self.cards_for(host, want, suitable)
            return part_of(host, shape, cards) if cards else None
        if not shape.wants_gpu:
            cpu, memory = self.spare(host, want)
            fits = cpu >= shape.cpu_millis and memory >= shape.memory_mib
            return Part(host.id, (), shape.cpu_millis, shape.memory_mib) if fits else None
        choices = []
        for place in bits(suitable):
            piece = self.on_card(want, host, place, host.cards[place])
            if piece is not None and self._lasts(host, want, place):
                card = host.cards[place]
                choices.append((not card, not host.node.gpus[place].layout, left_of(card), place, piece))
        if not choices:
            return None
        return Part(host.id, (min(choices, key=lambda c: c[:4])[4],), shape.cpu_millis, shape.memory_mib)


# -------------------------------------------------------------------------------------------- filters
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
    ranked: dict[int, int] = {}
    for place, gpu in enumerate(group.cards):
        if shape.models and gpu.model not in shape.models:
            continue
        if shape.mig:
            suits = gpu.mig and bool(mig.wanted(gpu.model, shape.mig, shape.gpu_memory_mib))
        else:
            suits = gpu.memory_mib >= shape.gpu_memory_mib
        if suits:
            rank = shape.models.index(gpu.model) if shape.models else 0
            ranked[rank] = ranked.get(rank, 0) | 1 << place
    for rank, cards in ranked.items():
        if cards.bit_count() >= max(1, shape.gpus):
            yield rank, cards


def domain_of(host: Host, depth: int, levels: int) -> tuple[str, ...] | None:
    """The name of the domain of this level that the node is in, or None where the node does not say."""
    if depth == levels - 1:
        return (str(host.id).zfill(12),)
    path = host.node.path
    return path[: depth + 1] if len(path) > depth else None


# -------------------------------------------------------------------------------------------- cards
def part_of(host: Host, shape: Shape, cards: int) -> Part:
    """One replica of whole cards, chosen among `cards`."""
    gpus = host.node.gpus
    pieces = tuple(Piece(gpu=gpus[place].id, units=GPU_UNITS) for place in choose_cards(host, cards, shape.gpus))
    return Part(node=host.id, pieces=pieces, cpu_millis=shape.cpu_millis, memory_mib=shape.memory_mib)


def bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def choose_cards(host: Host, cards: int, count: int) -> list[int]:
    """`count` of these cards: uncut ones before cut ones, from the smallest NVLink island that has enough, else from
    the largest islands first; ties by place."""
    places = list(bits(cards))
    if len(places) == count:
        return places
    gpus = host.node.gpus
    islands: dict[int, list[int]] = {}
    for place in sorted(places, key=lambda p: (bool(gpus[p].layout), p)):
        islands.setdefault(gpus[place].island, []).append(place)
    enough = [members for members in islands.values() if len(members) >= count]
    if enough:
        return sorted(min(enough, key=lambda m: (len(m), m[0]))[:count])
    chosen: list[int] = []
    for members in sorted(islands.values(), key=lambda m: (-len(m), m[0])):
        chosen += members[: count - len(chosen)]
    return sorted(chosen)


def left_of(card: Card) -> int:
    """Units of a card that nobody holds."""
    return GPU_UNITS - sum(piece.units for _, piece in card)


def _share_of(card: Card, gpu: Gpu, shape: Shape) -> Piece | None:
    if any(piece.whole or piece.profile for _, piece in card):
        return None
    used = sum(piece.thousandths for _, piece in card)
    memory = shape.gpu_memory_mib or gpu.memory_mib * shape.thousandths // 1000
    held = sum(piece.memory_mib for _, piece in card)
    if used + shape.thousandths > 1000 or (gpu.memory_mib and held + memory > gpu.memory_mib):
        return None
    return Piece(gpu.id, fraction(shape.thousandths), thousandths=shape.thousandths, memory_mib=memory)


def instance_on(card: Card, gpu: Gpu, shape: Shape, *, recut: bool) -> Piece | None:
    """A free instance that satisfies the ask, else one that can be cut from parts that nobody holds."""
    if not gpu.mig or any(not piece.profile for _, piece in card):
        return None
    held = tuple(sorted((Instance(p.profile, p.start) for _, p in card), key=lambda i: (i.start, i.profile)))
    profiles = mig.wanted(gpu.model, shape.mig, shape.gpu_memory_mib)
    for profile in profiles:
        for instance in gpu.layout:
            if instance.profile == profile.name and instance not in held:
                return Piece(gpu.id, profile.units, profile.name, instance.start, memory_mib=profile.memory_mib)
    if not recut:
        return None
    for profile in profiles:
        for start in mig.starts(gpu.model, profile, held):
            return Piece(gpu.id, profile.units, profile.name, start, memory_mib=profile.memory_mib)
    return None
