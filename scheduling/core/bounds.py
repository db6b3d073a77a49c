"""What room for one replica costs at least on each node, so that a search for victims looks at few of them.

A bound is what the cheapest runs on the node that together free enough cards would cost if all of them might be taken.
Bounds are kept between plans. A stored one stays a lower bound while time passes, because lost work only grows, and
while a plan is made, because nodes only fill up and runs only fall; nodes on which anything else has happened are
bounded anew. No decision depends on how good a bound is: it only says where the search may end.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

from scheduling.core.candidates import Candidates, cards_on
from scheduling.core.ledger import Ledger

#: the first three terms of a SetKey, or less
Bound = tuple[bool, int, int]
NOTHING: Bound = (False, -(1 << 30), 0)
#: who takes from its own team: (team, tier, whether nobody else's borrowed work may be taken beside it)
Owner = tuple[int, int, bool]
#: (cards free by then, bound), the cheapest first
Steps = list[tuple[int, Bound]]


class Order:
    """Nodes in the order of their bounds, and how much of the log of what happened it knows of."""

    __slots__ = ("known", "nodes", "of")

    def __init__(self) -> None:
        self.nodes: list[tuple[Bound, int]] = []
        self.of: dict[int, Bound] = {}
        self.known = 0

    def put(self, node: int, bound: Bound | None) -> None:
        """The bound of this node is another now, or (None) no set of runs makes room there."""
        before = self.of.pop(node, None)
        if before is not None:
            del self.nodes[bisect_left(self.nodes, (before, node))]
        if bound is not None:
            self.of[node] = bound
            insort(self.nodes, (bound, node))


class Bounds:
    """Orders of nodes, one for each number of cards and each owner that somebody has asked for."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._orders: dict[tuple[str, int, Owner | None], Order] = {}
        self._steps: dict[int, dict[Owner | None, Steps]] = {}
        self._happened: list[int] = []
        self._now = -1
        #: what `Candidates.teams_on` has found out, until something happens on the node
        self.teams: dict[int, dict[int, tuple[int, int]]] = {}

    def touch(self, nodes: Iterable[int]) -> None:
        """Something has come, gone or changed on these nodes."""
        for node in nodes:
            self._happened.append(node)
            self.teams.pop(node, None)

    def begin(self, now: int, candidates: Candidates) -> None:
        """A plan begins. Where the clock was turned back, no order is worth keeping."""
        self.candidates = candidates
        if now < self._now:
            self._orders.clear()
        if len(self._happened) > 4 * len(self.ledger.hosts):
            self._shorten()
        self._steps.clear()
        self._now = now

    def _shorten(self) -> None:
        """Let go of orders that know nothing of what happened lately, and of what all others know."""
        stale = len(self._happened) - 2 * len(self.ledger.hosts)
        self._orders = {key: order for key, order in self._orders.items() if order.known > stale}
        everybody = min((order.known for order in self._orders.values()), default=len(self._happened))
        del self._happened[:everybody]
        for order in self._orders.values():
            order.known -= everybody

    def fell(self, nodes: Iterable[int]) -> None:
        """While a plan is made runs on these nodes fall: what they offered is gone, and bounds get worse."""
        for node in nodes:
            self._steps.pop(node, None)

    def ordered(
        self, pool: str, gpus: int, owner: Owner | None, *, trial: bool, among: set[int] | None = None
    ) -> Iterator[tuple[Bound, int]]:
        """Nodes where room may be made, the cheapest first: whoever asks, or nodes with work of the owner's team, of
        its tier and lower ones. In a `trial`, with a part of a gang taken, stored bounds are good enough, and others
        would be wrong afterwards. They are good enough, too, where there is no work of the teams `among`."""
        key = (pool, gpus, owner)
        order = self._orders.get(key) or self._new_order(*key)
        for node in dict.fromkeys(self._happened[order.known :]):
            if owner is None or node in order.of or owner[0] in self.candidates.teams_on(node):
                order.put(node, self._bound(node, *key))
        order.known = len(self._happened)
        index = 0
        while index < len(order.nodes):
            bound, node = order.nodes[index]
            checked = not trial and (bound == NOTHING or self.holds_any(node, among))
            if checked and (present := self._bound(node, *key)) != bound:
                order.put(node, present)
                continue
            yield bound, node
            index += 1

    def holds_any(self, node: int, teams: set[int] | None) -> bool:
        """Is there work of one of these teams (None: of anybody) on the node that may be evicted?"""
        return teams is None or not teams.isdisjoint(self.candidates.teams_on(node))

    def _new_order(self, pool: str, gpus: int, owner: Owner | None) -> Order:
        order = self._orders[pool, gpus, owner] = Order()
        order.known = len(self._happened)
        nodes = self.candidates.nodes_of(pool, *owner[:2]) if owner else list(self.ledger.hosts)
        if owner and owner[2]:  # most nodes are ruled out by counting, without a look at their runs
            hosts, teams_on, none = self.ledger.hosts, self.candidates.teams_on, (-1, 0)
            nodes = [
                node for node in nodes
                if node in hosts and hosts[node].free.bit_count() + teams_on(node).get(owner[0], none)[1] >= gpus
            ]  # fmt: skip
        bounds = ((node, self._bound(node, pool, gpus, owner)) for node in nodes)
        order.of = {node: bound for node, bound in bounds if bound is not None}
        order.nodes = sorted((bound, node) for node, bound in order.of.items())
        return order

    def _bound(self, node: int, pool: str, gpus: int, owner: Owner | None) -> Bound | None:
        """Not more than the first three terms of `cost_of` for any set that frees so many whole cards here. None: no
        set does."""
        host = self.ledger.hosts.get(node)
        if host is None or not host.node.accepts or host.node.pool != pool or host.group.size < gpus:
            return None
        missing = gpus - host.free.bit_count()
        if owner is not None:
            lowest, cards = self.candidates.teams_on(node).get(owner[0], (-1, 0))
            if lowest < owner[1] or (owner[2] and cards < missing):
                return None
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
        eligible, floors = [], dict[tuple[bool, int], int]()
        for victim in self.candidates.on_host(node):
            own = owner is None or (victim.team == owner[0] and victim.tier >= owner[1])
            if not own and owner is not None and (victim.guaranteed or owner[2]):
                continue
            eligible.append(victim)
            least = min(victim.lost, victim.ran)  # suspended or stopped: that depends on who asks
            floors[victim.guaranteed, victim.tier] = min(floors.get((victim.guaranteed, victim.tier), least), least)
        freed, cheapest = 0, -1
        for victim in eligible:
            floor = floors[victim.guaranteed, victim.tier]
            cheapest = floor if cheapest < 0 else min(cheapest, floor)
            freed += cards_on(victim.parts, node)
            steps.append((freed, (victim.guaranteed, -victim.tier, cheapest)))
        return steps
