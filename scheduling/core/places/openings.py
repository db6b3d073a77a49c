"""What one node has open for an ask: free cards, parts of cards, CPU and memory, without what others are promised."""

from scheduling.core.cluster import Part, Piece
from scheduling.core.ledger import Card, Host, Ledger
from scheduling.core.places.cards import bits, instance_on, left_of, part_of, share_of
from scheduling.core.places.filters import Want
from scheduling.core.policy import Policy
from scheduling.core.promises import Promises


class Openings:
    """Questions about one node of a ledger. `team_of` says whose a job is: a shared card serves one team."""

    def __init__(self, ledger: Ledger, promises: Promises, policy: Policy, team_of: dict[int, int]) -> None:
        self.ledger, self.promises, self.policy, self.team_of = ledger, promises, policy, team_of

    # ---------------------------------------------------------------------------------------- whole cards
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
    def on_card(self, want: Want, host: Host, place: int, card: Card) -> Piece | None:
        """The piece of this card that the ask would hold beside what `card` says is held, if there is one."""
        gpu = host.node.gpus[place]
        if want.shape.thousandths:
            if gpu.layout or any(self.team_of.get(job) != want.team for job, _ in card):
                return None  # MPS serves one UID: another team's share means another card
            return share_of(card, gpu, want.shape)
        return instance_on(card, gpu, want.shape, recut=self.policy.recut)

    def lasts(self, host: Host, want: Want, place: int) -> bool:
        """Are CPU and memory free, and this card not promised to others before the ask's limit is over?"""
        shape = want.shape
        if host.cpu < shape.cpu_millis or host.memory < shape.memory_mib:
            return False
        if host.id not in self.promises.hosts:
            return True
        blocked, cpu, memory = self.promises.limits(host, want.team, want.until)
        return not blocked >> place & 1 and cpu >= shape.cpu_millis and memory >= shape.memory_mib

    # ---------------------------------------------------------------------------------------- CPU only
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

    # ---------------------------------------------------------------------------------------- one replica
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
            if piece is not None and self.lasts(host, want, place):
                card = host.cards[place]
                choices.append((not card, not host.node.gpus[place].layout, left_of(card), place, piece))
        if not choices:
            return None
        return Part(host.id, (min(choices, key=lambda c: c[:4])[4],), shape.cpu_millis, shape.memory_mib)

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
