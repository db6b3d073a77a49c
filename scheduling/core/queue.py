"""What waits, kept in order between plans: team -> person -> row.

A row holds a person's jobs that compare alike in everything but their own terms: same right to go first, same tier,
same price in the same pools. Rows are what the tournament (`ordering`) lets compete, so that it need not look at each
job.
"""

from bisect import bisect_left, insort
from collections.abc import Callable
from heapq import heappop, heappush

from scheduling.core.cluster import Ask, Shape
from scheduling.core.decisions import Cause
from scheduling.core.places.filters import Offer
from scheduling.core.policy import Policy, SizeRule

NEVER = 1 << 62

#: (not critical, tier, latest start, -priority, size, submitted, job, limit): what does not depend on others
Entry = tuple[int, int, int, int, int, int, int, int]
#: (pool, units) for each pool that may serve a shape, in its order of preference
Costs = tuple[tuple[str, int], ...]
#: (not critical, tier, costs): what jobs of one row have in common
Rank = tuple[int, int, Costs]


class Family:
    """Kinds that differ in CPU and memory only. What fails for want of cards or rights fails for all of them."""

    __slots__ = ("dead_from", "form", "kinds")

    def __init__(self, form: int) -> None:
        self.form, self.kinds = form, 0
        self.dead_from = NEVER


class Kind:
    """Jobs that are one to every decision: same team, shape, tier and right to be evicted. A suspended job is its own.

    `costs`: (pool, units) for each pool that may serve it, in its order of preference. `dead_from`: within the present
    plan, jobs of this kind with such a limit or a longer one need not be tried any more; `cause`: none of them is tried
    at all, for this; `evicts`: no search for victims has failed yet.
    """

    __slots__ = ("cause", "costs", "dead_from", "evicts", "family", "jobs", "offers", "preemptible", "rank", "shape",
                 "team", "tier")  # fmt: skip

    def __init__(self, ask: Ask, tier: int, family: Family) -> None:
        self.family = family
        self.team, self.shape, self.tier, self.preemptible = ask.team, ask.shape, tier, ask.preemptible
        self.costs: Costs = ()
        #: by pools, what their nodes offer it, for `rooms`: known until it costs something else
        self.offers: dict[tuple[str, ...], Offer] = {}
        self.rank: Rank | None = None
        self.jobs = 0
        self.revive()

    def revive(self) -> None:
        """A new plan begins: everything is worth trying again."""
        self.dead_from = NEVER
        self.cause: Cause | None = None
        self.evicts = True


KindKey = tuple[int, Shape, int, bool, int]
FamilyKey = tuple[int, int, bool, int, int]
Pair = tuple[Entry, Kind]
Key = tuple[int, ...]


class Row:
    """The jobs of one person and one rank, in order. The rest is how far the walk of the present plan has come on it:
    `index`, and in `dead` kinds of which jobs with such a limit or a longer one are skipped on this row only. `seeded`:
    (key, this row) as the tournament last seeded it."""

    __slots__ = ("dead", "index", "pairs", "seeded")

    def __init__(self) -> None:
        self.pairs: list[Pair] = []
        self.index = 0
        self.dead: dict[Kind, int] | None = None
        self.seeded: tuple[Key, Row] | None = None

    def seed(self, *, outside: bool) -> "tuple[Key, Row]":
        """A walk begins. Its key among a person's rows: critical, beyond the guarantee, tier, the first job's terms.
        The last walk's serves again where it is the same."""
        self.index, self.dead = 0, None
        entry = self.pairs[0][0]
        seeded = self.seeded
        if seeded is None or seeded[0][7] != entry[6] or seeded[0][1] != outside or seeded[0][3] != entry[2]:
            seeded = self.seeded = ((entry[0], outside, *entry[1:]), self)
        return seeded


class Queue:
    """Everything that waits. `begin` readies it for a plan; between plans jobs come and go."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.tiers = {tier.name: rank for rank, tier in enumerate(policy.tiers)}
        self.asks: dict[int, Ask] = {}
        self.pairs: dict[int, Pair] = {}
        self.rows: dict[int, dict[int, dict[Rank, Row]]] = {}
        self.kinds: dict[KindKey, Kind] = {}
        self.families: dict[FamilyKey, Family] = {}
        self.pinned: set[int] = set()
        self._forms: dict[tuple[object, ...], int] = {}
        self._latest: list[tuple[int, int]] = []
        #: jobs of kinds that do not know yet what they cost, and kinds whose last job has left
        self._fresh: list[Pair] = []
        self._left: set[KindKey] = set()
        self._costs_known = False

    def tier_of(self, ask: Ask) -> int:
        """The rank of its tier; a tier that the policy does not know comes after all others."""
        return self.tiers.get(ask.tier, len(self.policy.tiers))

    # ---------------------------------------------------------------------------------------- jobs come and go
    def add(self, ask: Ask, now: int) -> None:
        """A job waits. It replaces an earlier ask of the same job."""
        self.remove(ask.job)
        tier = self.tier_of(ask)
        key = _kind_key(ask, tier)
        kind = self.kinds.get(key)
        if kind is None:
            kind = self.kinds[key] = Kind(ask, tier, self._family(ask, tier))
            kind.family.kinds += 1
        kind.jobs += 1
        if ask.pinned:
            self.pinned.add(ask.job)
        entry = self.entry(ask, tier, now)
        if entry[2] < NEVER:
            heappush(self._latest, (entry[2], ask.job))
        pair = entry, kind
        self.asks[ask.job], self.pairs[ask.job] = ask, pair
        if kind.rank is None:
            self._fresh.append(pair)
        else:
            insort(self._row(pair).pairs, pair)

    def remove(self, job: int) -> None:
        """A job waits no longer."""
        ask = self.asks.pop(job, None)
        if ask is None:
            return
        self.pinned.discard(job)
        pair = self.pairs.pop(job)
        kind = pair[1]
        kind.jobs -= 1
        if not kind.jobs:
            self._left.add(_kind_key(ask, kind.tier))
        if kind.rank is None:
            return  # it is among the fresh ones, which are looked through before the next plan
        people = self.rows[ask.team]
        row = people[ask.user][kind.rank]
        del row.pairs[bisect_left(row.pairs, pair)]
        row.seeded = None
        if not row.pairs:
            del people[ask.user][kind.rank]
            if not people[ask.user]:
                del people[ask.user]

    def _row(self, pair: Pair) -> Row:
        entry, kind = pair
        assert kind.rank is not None
        user = self.asks[entry[6]].user
        return self.rows.setdefault(kind.team, {}).setdefault(user, {}).setdefault(kind.rank, Row())

    def _family(self, ask: Ask, tier: int) -> Family:
        shape = ask.shape
        bare = (shape.gpus, shape.replicas, shape.mig, shape.thousandths, shape.gpu_memory_mib, shape.models,
                shape.pools, shape.required, shape.preferred, shape.needs)  # fmt: skip
        form = self._forms.setdefault(bare, len(self._forms))
        key = (ask.team, tier, ask.preemptible, ask.job if ask.pinned else 0, form)
        return self.families.setdefault(key, Family(form))

    # ---------------------------------------------------------------------------------------- a plan begins
    def costs_moved(self) -> None:
        """Nodes came, went or changed: what each kind costs where must be asked again."""
        self._costs_known = False

    def begin(self, now: int, costs_of: Callable[[Shape], Costs]) -> None:
        """Forget kinds that nobody is of, revive the others, put every job into its row, and let deadlines go that
        cannot be met now."""
        self._drop_empty()
        for kind in self.kinds.values():
            kind.dead_from, kind.cause, kind.evicts = NEVER, None, True
        for family in self.families.values():
            family.dead_from = NEVER
        self._price(costs_of)
        while self._latest and self._latest[0][0] < now:
            _, job = heappop(self._latest)
            if job in self.asks:
                self.add(self.asks[job], now)

    def _drop_empty(self) -> None:
        for key in self._left:
            kind = self.kinds.get(key)
            if kind is not None and not kind.jobs:
                del self.kinds[key]
                kind.family.kinds -= 1
                if not kind.family.kinds:
                    del self.families[(key[0], key[2], key[3], key[4], kind.family.form)]
        self._left.clear()

    def _price(self, costs_of: Callable[[Shape], Costs]) -> None:
        """Kinds learn what they cost; their jobs go into the rows, all anew where any kind has changed its rank."""
        fresh = {kind for _, kind in self._fresh} if self._costs_known else self.kinds.values()
        anew = False
        for kind in fresh:
            kind.costs = costs_of(kind.shape)
            kind.offers.clear()
            known = self.policy.tiers[kind.tier] if kind.tier < len(self.policy.tiers) else None
            rank = (not (known and known.critical), kind.tier, kind.costs)
            anew = anew or (kind.rank is not None and kind.rank != rank)
            kind.rank = rank
        self._costs_known = True
        if anew:
            self.rows.clear()
        grown: dict[int, Row] = {}
        for pair in self.pairs.values() if anew else self._fresh:
            if anew or self.pairs.get(pair[0][6]) is pair:
                row = self._row(pair)
                row.pairs.append(pair)
                grown[id(row)] = row
        for row in grown.values():
            row.pairs.sort()
        self._fresh.clear()

    def entry(self, ask: Ask, tier: int, now: int) -> Entry:
        """The terms that are the job's own. A deadline counts while it can still be met."""
        known = self.policy.tiers[tier] if tier < len(self.policy.tiers) else None
        latest = ask.deadline - ask.limit_s if ask.deadline else NEVER
        size = size_of(self.policy, tier, left_s=ask.limit_s, attained=ask.attained)
        critical = known is not None and known.critical
        if latest < now:
            latest = NEVER
        return (not critical, tier, latest, -ask.priority, size, ask.submitted, ask.job, ask.limit_s)


def _kind_key(ask: Ask, tier: int) -> KindKey:
    return (ask.team, ask.shape, tier, ask.preemptible, ask.job if ask.pinned else 0)


def size_of(policy: Policy, tier: int, *, left_s: int, attained: int) -> int:
    """The term of the tier's size rule: what its limit leaves, or the geometric level of the service it has had (Least
    Attained Service in few queues, as in Tiresias). Those at the last level no longer overtake each other."""
    rule = policy.tiers[tier].size_rule if tier < len(policy.tiers) else SizeRule.NONE
    if rule is SizeRule.SHORTEST:
        return left_s
    if rule is SizeRule.ATTAINED:
        level = ((attained // max(1, policy.attained_base)).bit_length() + 1) // 2
        return min(level, policy.attained_levels - 1)
    return 0
