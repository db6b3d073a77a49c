"""What one node has open for an ask: free cards, parts of cards, CPU and memory, without what others are promised.

There is one judgement of whether a replica has a place on a node, `cards_for`. Placement asks it of the node as it is,
eviction of the node as it would be without some jobs: so whoever falls, falls for a place that is really there.
"""

from collections.abc import Mapping, Sequence, Set

from scheduling.core.cluster import Part, Piece
from scheduling.core.ledger import Card, Host, Ledger
from scheduling.core.places.cards import bits, freshness, in_islands, instance_on, left_of, part_of, share_of
from scheduling.core.places.filters import ISLAND, Want
from scheduling.core.policy import Policy
from scheduling.core.promises import NOBODY, NOTHING, PAST, Promises

#: the answer for work that needs no card
ANY = -1


class Openings:
    """Questions about one node of a ledger. `team_of` says whose a job is: a shared card serves one team.

    Where a question takes `gone`, it is about the node without these jobs; `saves` says how much of its memory (MiB)
    each of them would leave there, because it is suspended and not stopped.
    """

    def __init__(self, ledger: Ledger, promises: Promises, policy: Policy, team_of: dict[int, int]) -> None:
        self.ledger, self.promises, self.policy, self.team_of = ledger, promises, policy, team_of

    # ---------------------------------------------------------------------------------------- what is left
    def left_on(
        self, host: Host, want: Want, gone: Set[int] = NOBODY, saves: Mapping[int, int] = NOTHING
    ) -> tuple[int, int, int, int]:
        """(cards that nobody holds, cards that are promised to others, both as bits; CPU and memory that may be taken)
        until the ask's limit is over."""
        free, barred, cpu, memory = host.free, 0, host.cpu, host.memory
        if gone:
            cpu, memory = self.promises.free_at(host, PAST, gone, saves)
            for place in bits(host.all & ~free):
                if all(job in gone for job, _ in host.cards[place]):
                    free |= 1 << place
        if host.id in self.promises.hosts:
            barred, cpu, memory = self.promises.limits(host, want.team, want.until, gone, saves)
        return free, barred, cpu, memory

    def cards_for(
        self, host: Host, want: Want, suitable: int, gone: Set[int] = NOBODY, saves: Mapping[int, int] = NOTHING
    ) -> int:
        """Has one replica a place here until its limit is over, and on which cards? As bits: the free ones where it
        takes whole cards, each that would do for a part of one, ANY for work without GPUs; 0: it has none."""
        shape = want.shape
        if not gone and (host.cpu < shape.cpu_millis or host.memory < shape.memory_mib):
            return 0
        free, barred, cpu, memory = self.left_on(host, want, gone, saves)
        if not shape.wants_gpu:
            kept_cpu, kept_memory = self.kept(host, free)
            cpu, memory = cpu - kept_cpu, memory - kept_memory
        if cpu < shape.cpu_millis or memory < shape.memory_mib:
            return 0
        if not shape.wants_gpu:
            return ANY
        cards = suitable & ~barred
        if shape.gpus:
            cards &= free
            if shape.required == ISLAND:
                return in_islands(host.group, cards, shape.gpus)
            return cards if cards.bit_count() >= shape.gpus else 0
        serving = 0
        for place in bits(cards):
            if self.on_card(want, host, place, _without(gone, host.cards[place])) is not None:
                serving |= 1 << place
        return serving

    # ---------------------------------------------------------------------------------------- parts of a card
    def on_card(self, want: Want, host: Host, place: int, card: Card) -> Piece | None:
        """The piece of this card that the ask would hold beside what `card` says is held, if there is one. The card is
        one that suits the ask (`options_among`)."""
        gpu = host.node.gpus[place]
        if want.shape.thousandths:
            if any(job != want.job and self.team_of.get(job) != want.team for job, _ in card):
                return None  # MPS serves one UID: another team's share means another card
            return share_of(card, gpu, want.shape)
        return instance_on(card, gpu, want.shape, recut=bool(host.group.cuttable >> place & 1))

    def pieces(self, want: Want, host: Host, cards: int, held: Sequence[Card], most: int) -> list[Piece]:
        """Up to `most` parts of these cards beside what is held of each, for one replica each; a card may serve several
        replicas of a gang."""
        found: list[Piece] = []
        for place in bits(cards):
            card = list(held[place])
            while len(found) < most and (piece := self.on_card(want, host, place, card)) is not None:
                found.append(piece)
                card.append((want.job, piece))
        return found

    def lasts(self, host: Host, want: Want, place: int) -> bool:
        """Are CPU and memory free, and this card not promised to others before the ask's limit is over?"""
        shape = want.shape
        _, barred, cpu, memory = self.left_on(host, want)
        return cpu >= shape.cpu_millis and memory >= shape.memory_mib and not barred >> place & 1

    # ---------------------------------------------------------------------------------------- CPU only
    def spare(self, host: Host, want: Want) -> tuple[int, int]:
        """CPU and memory that work without GPUs may take here."""
        free, _, cpu, memory = self.left_on(host, want)
        kept_cpu, kept_memory = self.kept(host, free)
        return cpu - kept_cpu, memory - kept_memory

    def kept(self, host: Host, free: int) -> tuple[int, int]:
        """CPU and memory that stay with these free cards, so that work without GPUs does not strand them."""
        if not host.group.size:
            return 0, 0
        share = free.bit_count() * self.policy.cpu_kept_percent
        whole = 100 * host.group.size
        return host.node.cpu_millis * share // whole, host.node.memory_mib * share // whole

    # ---------------------------------------------------------------------------------------- one replica
    def one_here(self, want: Want, host: Host, suitable: int) -> Part | None:
        """One replica on this very node, on the best of the cards that it has there; None: it has no place."""
        shape = want.shape
        cards = self.cards_for(host, want, suitable)
        if not cards:
            return None
        if shape.gpus:
            return part_of(host, shape, cards)
        pieces: tuple[Piece, ...] = ()
        if shape.wants_gpu:
            place = min(bits(cards), key=lambda at: (*freshness(host, at, shape), left_of(host.cards[at]), at))
            piece = self.on_card(want, host, place, host.cards[place])
            pieces = (piece,) if piece is not None else ()
        return Part(host.id, pieces, shape.cpu_millis, shape.memory_mib)

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


def _without(gone: Set[int], card: Card) -> Card:
    return [held for held in card if held[0] not in gone] if gone else card
