"""Who is next: a tournament up the team tree, not a sort key.

The order (DESIGN, Order): critical -> in-guarantee before borrowing -> tier -> team share as if admitted, at each
level from the root down to the person -> latest start -> priority -> size rule -> submitted -> id. At every level the
children's best jobs meet; "in-guarantee" and "share" are those of the child at that level. Shares "as if admitted"
follow Armada, the descent by share follows Slurm's Fair Tree and Kueue's hierarchical fair sharing.

While a plan is made, what teams hold only grows, so every key only gets worse: a heap entry is a lower bound, looked at
again when it comes to the top. Only an eviction makes keys better; then that team's path is built anew.

Long because the queue and the tournament over it share their keys, and a term that is in one must be in the other.
"""

from bisect import bisect_left, insort
from dataclasses import replace
from heapq import heapify, heappop, heappush, heapreplace

from scheduling.core.cluster import Ask, Shape
from scheduling.core.decay import aged
from scheduling.core.decisions import Cause
from scheduling.core.policy import Policy, SizeRule
from scheduling.core.quota import Tree

NEVER = 1 << 62

#: (not critical, tier, latest start, -priority, size, submitted, job, limit): what does not depend on others
Entry = tuple[int, int, int, int, int, int, int, int]


class Family:
    """Kinds that differ in CPU and memory only. What fails for want of cards or rights fails for all of them."""

    __slots__ = ("cause", "dead_from", "form")

    def __init__(self, form: int) -> None:
        self.form = form
        self.revive()

    def revive(self) -> None:
        self.dead_from = NEVER
        self.cause: Cause | None = None


class Kind:
    """Jobs that are one to every decision: same team, shape, tier and right to be evicted. A suspended job is its own.

    `costs`: (pool, units) for each pool that may serve it, in its order of preference. `dead_from`: within the present
    plan, jobs of this kind with such a limit or a longer one need not be tried any more, for `cause`; `evicts`: no
    search for victims has failed yet.
    """

    __slots__ = ("cause", "costs", "dead_from", "evicts", "family", "jobs", "preemptible", "shape", "team", "tier")

    def __init__(self, ask: Ask, tier: int, family: Family) -> None:
        self.family = family
        self.team, self.shape, self.tier, self.preemptible = ask.team, ask.shape, tier, ask.preemptible
        self.costs: tuple[tuple[str, int], ...] = ()
        self.jobs = 0
        self.revive()

    def revive(self) -> None:
        """A new plan begins: everything is worth trying again."""
        self.dead_from = NEVER
        self.cause: Cause | None = None
        self.evicts = True


KindKey = tuple[int, Shape, int, bool, int]
#: the jobs of one kind and one person, in order
Line = list[Entry]


class Queue:
    """Everything that waits, kept in order between plans: team -> user -> kind -> line."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.tiers = {tier.name: rank for rank, tier in enumerate(policy.tiers)}
        self.asks: dict[int, Ask] = {}
        self.kinds: dict[KindKey, Kind] = {}
        self.families: dict[tuple[int, int, bool, int, int], Family] = {}
        self.forms: dict[Shape, int] = {}
        self.teams: dict[int, dict[int, dict[Kind, Line]]] = {}
        self.entries: dict[int, tuple[Kind, Entry]] = {}
        self.pinned: set[int] = set()
        self._latest: list[tuple[int, int]] = []

    def tier_of(self, ask: Ask) -> int:
        """The rank of its tier; a tier that the policy does not know comes after all others."""
        return self.tiers.get(ask.tier, len(self.policy.tiers))

    def add(self, ask: Ask, now: int) -> None:
        self.remove(ask.job)
        tier = self.tier_of(ask)
        key = (ask.team, ask.shape, tier, ask.preemptible, ask.job if ask.pinned else 0)
        kind = self.kinds.get(key)
        if kind is None:
            kind = self.kinds[key] = Kind(ask, tier, self._family(ask, tier))
        kind.jobs += 1
        if ask.pinned:
            self.pinned.add(ask.job)
        entry = self.entry(ask, tier, now)
        if entry[2] < NEVER:
            heappush(self._latest, (entry[2], ask.job))
        self.asks[ask.job] = ask
        self.entries[ask.job] = (kind, entry)
        line = self.teams.setdefault(ask.team, {}).setdefault(ask.user, {}).setdefault(kind, [])
        if line and line[-1] > entry:
            insort(line, entry)
        else:
            line.append(entry)

    def _family(self, ask: Ask, tier: int) -> Family:
        bare = replace(ask.shape, cpu_millis=0, memory_mib=0)
        form = self.forms.setdefault(bare, len(self.forms))
        key = (ask.team, tier, ask.preemptible, ask.job if ask.pinned else 0, form)
        return self.families.setdefault(key, Family(form))

    def remove(self, job: int) -> None:
        ask = self.asks.pop(job, None)
        if ask is None:
            return
        kind, entry = self.entries.pop(job)
        kind.jobs -= 1
        self.pinned.discard(job)
        users = self.teams[ask.team]
        line = users[ask.user][kind]
        del line[bisect_left(line, entry)]
        if not line:
            del users[ask.user][kind]
            if not users[ask.user]:
                del users[ask.user]

    def parked(self, before: int) -> list[Ask]:
        """Suspended jobs that have waited for their cards since before then."""
        return [self.asks[job] for job in sorted(self.pinned) if self.asks[job].suspended_at <= before]

    def begin(self, now: int) -> None:
        """A plan begins: drop kinds that nobody is of, revive the others, and let deadlines go that cannot be met
        now."""
        for key, kind in list(self.kinds.items()):
            if kind.jobs:
                kind.revive()
                kind.family.revive()
            else:
                del self.kinds[key]
        while self._latest and self._latest[0][0] < now:
            _, job = heappop(self._latest)
            if job in self.asks:
                self.add(self.asks[job], now)

    def entry(self, ask: Ask, tier: int, now: int) -> Entry:
        """The terms that are the job's own. A deadline counts while it can still be met."""
        known = self.policy.tiers[tier] if tier < len(self.policy.tiers) else None
        latest = ask.deadline - ask.limit_s if ask.deadline else NEVER
        size = size_of(self.policy, tier, left_s=ask.limit_s, attained=ask.attained)
        critical = known is not None and known.critical
        if latest < now:
            latest = NEVER
        return (not critical, tier, latest, -ask.priority, size, ask.submitted, ask.job, ask.limit_s)


def size_of(policy: Policy, tier: int, *, left_s: int, attained: int) -> int:
    """The term of the tier's size rule: what its limit leaves, or the geometric level of the service it has had
    (twice the base is one level more; Least Attained Service, as in Tiresias)."""
    rule = policy.tiers[tier].size_rule if tier < len(policy.tiers) else SizeRule.NONE
    if rule is SizeRule.SHORTEST:
        return left_s
    if rule is SizeRule.ATTAINED:
        return (attained // max(1, policy.attained_base)).bit_length()
    return 0


class Cursor:
    """How far the walk has come on one line."""

    __slots__ = ("dead_from", "index", "kind", "line")

    def __init__(self, kind: Kind, line: Line) -> None:
        self.kind, self.line, self.index, self.dead_from = kind, line, 0, NEVER


class Seat:
    """A place in the tournament: a team with its children, or a person with his lines. `best`: its champion."""

    __slots__ = ("best", "heap", "lines", "parent", "seats", "team", "user")

    def __init__(self, team: int, user: int, parent: "Seat | None") -> None:
        self.team, self.user, self.parent = team, user, parent
        self.heap: list[tuple[tuple[int, ...], int, Seat]] = []
        self.lines: list[tuple[tuple[int, ...], int, Cursor]] = []
        self.seats: list[Seat] = []
        self.best: tuple[Entry, Kind] | None = None


class Tournament:
    """One walk through the queue. `next()` names the best job that is still worth trying; `passed()` takes it out."""

    def __init__(self, queue: Queue, trees: dict[str, Tree], scales: dict[str, dict[int, int]], now: int) -> None:
        self.queue, self.trees, self.scales, self.now = queue, trees, scales, now
        self.half_life = queue.policy.half_life_s
        self._pools = [(name, tree, scales[name]) for name, tree in trees.items()]
        self._past: dict[tuple[str, int, int], int] = {}
        self._root = Seat(0, 0, None)
        self._team_seats: dict[int, Seat] = {0: self._root}
        self._serial = 0
        self._recall_teams()

    def enter(self, team: int) -> None:
        """All jobs of a team take part."""
        seat = self._seat_of(team)
        for user in sorted(self.queue.teams.get(team, ())):
            person = Seat(team, user, seat)
            self._recall_person(team, user)
            for kind, line in self.queue.teams[team][user].items():
                person.lines.append((self._line_key(line[0], kind), self._count(), Cursor(kind, line)))
            heapify(person.lines)
            seat.seats.append(person)

    def begin(self) -> None:
        """Everybody is in: seed every level, from the leaves up."""
        self._seed(self._root)

    def next(self) -> tuple[Entry, Kind] | None:
        champion = self._champion(self._root)
        if champion is not None:
            seat = self._root
            while seat.user == 0:
                seat = seat.heap[0][2]
            self._chosen = seat.lines[0][2]
        return champion

    def passed(self) -> None:
        """The champion has been decided: its line goes on behind it."""
        self._chosen.index += 1

    def bury(self, limit_s: int) -> None:
        """Nobody behind the champion on its own line needs to be tried with such a limit or a longer one."""
        self._chosen.dead_from = min(self._chosen.dead_from, limit_s)

    def improved(self, team: int) -> None:
        """A team's work was evicted, so its keys got better: build the heaps on its way to the root anew. Its people's
        lines only where it has come back below a guarantee."""
        seat: Seat | None = self._team_seats.get(team)
        accounts = [tree.account(team) for tree in self.trees.values()]
        below = any(account.used < account.guaranteed for account in accounts)
        for person in seat.seats if seat and below else ():
            if person.user:
                person.lines = [
                    (self._line_key(cursor.line[cursor.index], cursor.kind), n, cursor)
                    for _, n, cursor in person.lines
                    if cursor.index < len(cursor.line)
                ]
                heapify(person.lines)
        while seat is not None:
            self._fill(seat)
            seat = seat.parent

    # ---------------------------------------------------------------------------------------- the tree
    def _seat_of(self, team: int) -> Seat:
        seat = self._team_seats.get(team)
        if seat is None:
            account = next(iter(self.trees.values())).account(team) if self.trees else None
            above = account.parent.team if account is not None and account.parent is not None else 0
            parent = self._seat_of(above)
            seat = self._team_seats[team] = Seat(team, 0, parent)
            parent.seats.append(seat)
        return seat

    def _count(self) -> int:
        self._serial += 1
        return self._serial

    def _seed(self, seat: Seat) -> None:
        for child in seat.seats:
            if not child.user:
                self._seed(child)
        self._fill(seat)

    def _fill(self, seat: Seat) -> None:
        seat.heap = []
        for child in seat.seats:
            key = self._key(seat, child)
            if key is not None:
                seat.heap.append((key, self._count(), child))
        heapify(seat.heap)

    def _champion(self, seat: Seat) -> tuple[Entry, Kind] | None:
        """The seat's best job, after a second look at every stored key that comes to the top."""
        if seat.user:
            return self._champion_of_lines(seat)
        heap = seat.heap
        while heap:
            key, serial, child = heap[0]
            present = self._key(seat, child)
            if present is None:
                heappop(heap)
            elif present == key:
                seat.best = child.best
                return child.best
            else:
                heapreplace(heap, (present, serial, child))
        seat.best = None
        return None

    def _champion_of_lines(self, seat: Seat) -> tuple[Entry, Kind] | None:
        lines = seat.lines
        while lines:
            key, serial, cursor = lines[0]
            kind, line, index = cursor.kind, cursor.line, cursor.index
            dead_from = min(kind.dead_from, cursor.dead_from, kind.family.dead_from)
            if not dead_from:
                index = len(line)
            while index < len(line) and line[index][7] >= dead_from:
                index += 1
            cursor.index = index
            if index >= len(line):
                heappop(lines)
                continue
            present = self._line_key(line[index], kind)
            if present == key:
                seat.best = (line[index], kind)
                return seat.best
            heapreplace(lines, (present, serial, cursor))
        seat.best = None
        return None

    # ---------------------------------------------------------------------------------------- the keys
    def _line_key(self, entry: Entry, kind: Kind) -> tuple[int, ...]:
        """Among a person's own jobs: critical, in-guarantee, tier, and the job's own terms."""
        pool, units = self.where(kind)
        inside = self.trees[pool].account(kind.team).guarantees(units) if pool else False
        return (entry[0], not inside, *entry[1:])

    def _key(self, seat: Seat, child: Seat) -> tuple[int, ...] | None:
        """A child's champion as its parent compares it with the other children's."""
        champion = self._champion(child)
        if champion is None:
            return None
        entry, kind = champion
        pool, units = self.where(kind)
        if not pool:
            return (entry[0], 1, entry[1], 0, 0, *entry[2:])
        if child.user:
            inside = self.trees[pool].account(kind.team).guarantees(units)
            unweighted, share = 0, self._person_share(child.team, child.user, pool, units)
        else:
            inside = self.trees[pool].account(child.team).guarantees(units)
            unweighted, share = self.share(child.team, pool, units)
        return (entry[0], not inside, entry[1], unweighted, share, *entry[2:])

    def where(self, kind: Kind) -> tuple[str, int]:
        """The pool in which it would be tried first: where it is within its guarantee, else its favourite."""
        costs = kind.costs
        if len(costs) > 1:
            for pool, units in costs:
                if self.trees[pool].account(kind.team).guarantees(units):
                    return pool, units
        return costs[0] if costs else ("", 0)

    def share(self, team: int, pool: str, extra: int, *, history: bool = True) -> tuple[int, int]:
        """(weight is 0, share as if `extra` more units were held in `pool`): the largest over all pools."""
        largest, unweighted, past = 0, 0, self._past if history else None
        for name, tree, scales in self._pools:
            account = tree.accounts.get(team) or tree.account(team)
            over = account.used - account.guaranteed + (extra if name == pool else 0)
            if over < 0:
                over = 0
            if past:
                over += past.get((name, team, 0), 0)
            if not over:
                continue
            scale = scales.get(team, scales.get(0, 1))
            if not scale:
                unweighted, scale = 1, 1
            if over * scale > largest:
                largest = over * scale
        return unweighted, largest

    def _person_share(self, team: int, user: int, pool: str, units: int) -> int:
        largest = 0
        for name, tree, scales in self._pools:
            over = tree.account(team).users.get(user, 0) + (units if name == pool else 0)
            if self._past:
                over += self._past.get((name, team, user), 0)
            largest = max(largest, over * scales.get(0, 1))
        return largest

    def standing(self) -> list[tuple[Entry, Kind]]:
        """Everybody who took part, in the order in which they stand now. While nothing is decided the tournament is a
        sort: each line's terms from the root down to the person, then the jobs' own."""
        ranked: dict[tuple[int, ...], list[tuple[Line, Kind]]] = {}
        for seat in self._team_seats.values():
            for person in seat.seats:
                if person.user:
                    for kind, line in self.queue.teams[person.team][person.user].items():
                        ranked.setdefault(self.terms(person.team, person.user, kind, line[0]), []).append((line, kind))
        standing: list[tuple[Entry, Kind]] = []
        for _, lines in sorted(ranked.items(), key=lambda item: item[0]):
            if len(lines) == 1:
                line, kind = lines[0]
                standing += [(entry, kind) for entry in line]
            else:
                merged = [(entry, n) for n, (line, _) in enumerate(lines) for entry in line]
                merged.sort()
                standing += [(entry, lines[n][1]) for entry, n in merged]
        return standing

    def terms(self, team: int, user: int, kind: Kind, entry: Entry) -> tuple[int, ...]:
        """critical, tier, then per level (beyond its guarantee, weight 0, share), then the person's share."""
        pool, units = self.where(kind)
        if not pool:
            return (entry[0], 1, entry[1])
        levels: list[int] = []
        for account in self.trees[pool].account(team).path():
            inside = not account.guarantees(units)
            levels += (inside, entry[1], *self.share(account.team, pool, units))
        return (entry[0], *levels, self._person_share(team, user, pool, units))

    # ---------------------------------------------------------------------------------------- the past
    def _recall_teams(self) -> None:
        """The decayed means as they stand now; the decisions of this plan do not move them."""
        for pool, tree in self.trees.items():
            for team, account in tree.accounts.items():
                if account.above_at and self.half_life:
                    age = self.now - account.above_at
                    self._past[pool, team, 0] = aged(account.mean, account.above(), age, self.half_life)

    def _recall_person(self, team: int, user: int) -> None:
        for pool, tree in self.trees.items():
            account = tree.account(team)
            known = account.user_means.get(user)
            if known is not None and self.half_life:
                held = account.users.get(user, 0)
                self._past[pool, team, user] = aged(known[0], held, self.now - known[1], self.half_life)
