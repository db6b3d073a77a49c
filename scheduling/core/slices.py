"""Parts of a card that are free for one kind of job: which nodes have one, and what there is where none has."""

from collections.abc import Iterator, Sequence

from scheduling.core import mig
from scheduling.core.cluster import Shape
from scheduling.core.decisions import Cause, HoldCode
from scheduling.core.ledger import Host
from scheduling.core.obstacles import Causes
from scheduling.core.places.cards import bits
from scheduling.core.places.filters import Want
from scheduling.core.queue import Kind
from scheduling.core.state import State

#: nodes with the bits of their suitable cards
Nodes = Sequence[tuple[Host, int]]


class Slices:
    """Shares and MIG instances. A card that somebody holds as a whole is never looked at."""

    def __init__(self, state: State, causes: Causes) -> None:
        self.state, self.causes = state, causes
        self._cut: dict[int, int] = {}
        for host_id, place in state.ledger.cut:
            self._cut[host_id] = self._cut.get(host_id, 0) | 1 << place

    def sides(self, kind: Kind, nodes: Nodes) -> list[tuple[int, int]]:
        """(CPU, memory) of each node on which one replica finds its part of a card."""
        want = Want(0, kind.team, kind.shape, "", 0)
        return [
            (host.cpu, host.memory) for host, cards in nodes
            if any(self.state.search.on_card(want, host, place, host.cards[place]) for place in self._open(host, cards))
        ]  # fmt: skip

    def cause(self, kind: Kind, nodes: Nodes) -> Cause:
        """No node has one: how near the best card comes."""
        return self._no_share(kind, nodes) if kind.shape.thousandths else self._no_instance(kind.shape, nodes)

    def _open(self, host: Host, cards: int) -> Iterator[int]:
        return bits((host.free | self._cut.get(host.id, 0)) & cards)

    def _no_share(self, kind: Kind, nodes: Nodes) -> Cause:
        """The most that is free on a card that serves shares, and nobody but this team."""
        shape = kind.shape
        least = Want(0, kind.team, Shape(thousandths=1, gpu_memory_mib=1), "", 0)
        most, roomiest = 0, (-1, 0)
        for host, cards in nodes:
            for place in self._open(host, cards):
                gpu, card = host.node.gpus[place], host.cards[place]
                if self.state.search.on_card(least, host, place, card) is None:
                    continue
                left = 1000 - sum(piece.thousandths for _, piece in card)
                most = max(most, left)
                if left >= shape.thousandths:  # then it is the card's memory that does not do
                    memory = shape.gpu_memory_mib or gpu.memory_mib * shape.thousandths // 1000
                    roomiest = max(roomiest, (gpu.memory_mib - sum(piece.memory_mib for _, piece in card), memory))
        if roomiest[0] >= 0:
            free, memory = roomiest
            return self.causes.of(
                HoldCode.SLICES_BUSY, thousandths=shape.thousandths, gpu_memory_mib=memory, free_gpu_memory_mib=free
            )
        return self.causes.of(HoldCode.SLICES_BUSY, thousandths=shape.thousandths, free_thousandths=most)

    def _no_instance(self, shape: Shape, nodes: Nodes) -> Cause:
        """How many cards could be cut for it, and the compute slices of the largest instance that one has or could be
        given now. (An instance may be large enough and not do: another profile where nothing is cut anew, too little
        memory. Then only the cards are told.)"""
        asked, largest = int(shape.mig.split("g")[0]), 0
        for host, cards in nodes:
            for place in self._open(host, cards):
                gpu = host.node.gpus[place]
                for profile in mig.PROFILES.get(gpu.model, {}).values():
                    wish = Want(0, 0, Shape(mig=profile.name), "", 0)
                    if profile.compute > largest and self.state.search.on_card(wish, host, place, host.cards[place]):
                        largest = profile.compute
        numbers = {"slices": asked, "cards": sum(cards.bit_count() for _, cards in nodes)}
        if largest < asked:
            numbers["free_slices"] = largest
        return self.causes.of(HoldCode.SLICES_BUSY, **numbers)
