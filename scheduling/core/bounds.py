"""What room for one replica costs at least on each node, so that a search for victims looks at few of them.

A bound is what the cheapest runs on the node that together free enough cards would cost if all of them might be taken.
While a plan is made nodes only fill up and runs only fall, so that bounds only get worse: a stored one is a lower
bound, looked at again when its turn comes.
"""

from bisect import insort
from collections.abc import Iterator

from scheduling.core.candidates import Candidates
from scheduling.core.ledger import Ledger
from scheduling.core.queue import Kind

#: the first three terms of a SetKey, or less
Bound = tuple[bool, int, int]
NOTHING: Bound = (False, -(1 << 30), 0)
#: a team and a tier: its borrowed work or, of any class, its work of this tier and lower ones
Owner = tuple[int, int]
#: (cards free by then, bound), the cheapest first
Steps = list[tuple[int, Bound]]


class Bounds:
    """Nodes in the order of their bounds, for each number of cards that somebody has asked for."""

    def __init__(self, ledger: Ledger, candidates: Candidates) -> None:
        self.ledger, self.candidates = ledger, candidates
        self._orders: dict[tuple[str, int, Owner | None], list[tuple[Bound, int]]] = {}
        self._steps: dict[int, dict[Owner | None, Steps]] = {}

    def moved(self, nodes: set[int]) -> None:
        """Runs on these nodes fall."""
        for node in nodes:
            self._steps.pop(node, None)

    def ordered(self, pool: str, gpus: int, owner: Kind | None, *, trial: bool) -> Iterator[tuple[Bound, int]]:
        """Nodes where room may be made, the cheapest first: whoever asks, or nodes with work of lower tiers of the
        owner's team. In a `trial`, with a part of a gang taken, stored bounds are good enough, and others would be
        wrong afterwards."""
        key = (pool, gpus, (owner.team, owner.tier) if owner else None)
        order = self._orders.get(key)
        if order is None:
            order = self._orders[key] = sorted(self._first(pool, gpus, key[2]))
        index = 0
        while index < len(order):
            bound, node = order[index]
            if not trial and (present := self._bound(node, gpus, key[2])) != bound:
                del order[index]
                if present is not None:
                    insort(order, (present, node))
                continue
            yield bound, node
            index += 1

    def _first(self, pool: str, gpus: int, owner: Owner | None) -> Iterator[tuple[Bound, int]]:
        if owner is None:
            nodes = [host.id for host in self.ledger.accepting() if host.node.pool == pool]
        else:
            nodes = self.candidates.nodes_of(pool, *owner)
        for node in nodes:
            bound = self._bound(node, gpus, owner)
            if bound is not None:
                yield bound, node

    def _bound(self, node: int, gpus: int, owner: Owner | None) -> Bound | None:
        """Not more than the first three terms of `cost_of` for any set that frees so many whole cards here. None: no
        set does."""
        host = self.ledger.hosts.get(node)
        if host is None or not host.node.accepts or host.group.size < gpus:
            return None
        missing = gpus - host.free.bit_count()
        if not gpus or missing <= 0:
            return NOTHING
        known = self._steps.setdefault(node, {})
        steps = known.get(owner)
        if steps is None:
            steps = known[owner] = self._steps_of(node, owner)
        for freed, bound in steps:
            if freed >= missing:
                return bound
        return None

    def _steps_of(self, node: int, owner: Owner | None) -> Steps:
        """The cheapest class of runs that together free so many cards, and the least work that any of them loses."""
        steps: Steps = []
        freed, cheapest = 0, -1
        for victim in self.candidates.on_host(node):
            if victim.guaranteed and owner is not None and (victim.team != owner[0] or victim.tier < owner[1]):
                continue
            if cheapest < 0 or victim.lost < cheapest:
                cheapest = victim.lost
            freed += victim.cards_on(node)
            steps.append((freed, (victim.guaranteed, -victim.tier, cheapest)))
        return steps
