"""The team tree in one pool: what each team is owed, may borrow, has lent, and how large its share is. Integers only.

Algebra after Kueue's cohort trees (`pkg/cache/scheduler/resource_node.go`, public documentation of nominal quota,
borrowing and lending limits), with one difference: a parent's own quota is its guarantee minus its children's. That
rest is the overflow which all below it share. The root of each pool owns what the pool really has.

    kept   = what a team does not lend:        guarantee part beyond its lend limit
    stock  = what its subtree can hand around: own rest + what its children do not keep
    drawn  = what of the stock is in use:      its own jobs + what its children draw beyond what they keep

The fair share follows KAI's decayed over-quota use and Kueue's dominant resource share: (above + past) / weight, the
largest over all pools, compared without division.
"""

from collections.abc import Iterable, Mapping
from math import lcm

from scheduling.core.cluster import Past, Quota, Team
from scheduling.core.decay import aged

ROOT = 0
NO_QUOTA = Quota(pool="")


class CyclicTeams(ValueError):
    """The team tree has a cycle, or a parent that does not exist."""


class Account:
    """One team in one pool. `used`: all units held in its subtree; `firm`: those that may not be evicted. `users`: what
    each member holds in the team itself; `capped`: in its subtree, counted where there is a limit to it."""

    __slots__ = ("above_at", "capped", "direct", "drawn", "firm", "guaranteed", "kept", "mean", "parent", "quota",
                 "stock", "team", "used", "user_means", "users")  # fmt: skip

    def __init__(self, team: int, quota: Quota, parent: "Account | None") -> None:
        self.team, self.quota, self.parent = team, quota, parent
        self.guaranteed = self.kept = self.stock = 0
        self.used = self.direct = self.drawn = self.firm = 0
        self.mean, self.above_at = 0, 0
        self.users: dict[int, int] = {}
        self.capped: dict[int, int] = {}
        self.user_means: dict[int, tuple[int, int]] = {}

    def room(self, more: int = 0) -> int:
        """What it may still take, or might if the pool had so much `more`: what it keeps for itself, then what its
        parents hand around, up to its borrow limit."""
        if self.parent is None:
            return self.stock + more - self.drawn
        handed = self.parent.room(more)
        limit = self.quota.borrow_limit
        if limit is not None:
            lent = self.stock - self.kept
            taken = self.drawn - self.kept if self.drawn > self.kept else 0
            handed = min(handed, lent - taken + limit)
        return handed + (self.kept - self.drawn if self.kept > self.drawn else 0)

    def add(self, units: int) -> None:
        """Its own jobs hold so much more (or less); every team above sees what goes beyond what the one below keeps."""
        self.direct += units
        node: Account | None = self
        drawn = units
        while node is not None:
            node.used += units
            before = node.drawn - node.kept if node.drawn > node.kept else 0
            node.drawn += drawn
            drawn = (node.drawn - node.kept if node.drawn > node.kept else 0) - before
            node = node.parent

    def count(self, user: int, units: int, *, firm: bool) -> None:
        """So many units of its own jobs are this member's, and firm or not: what limits at every level look at."""
        self.users[user] = self.users.get(user, 0) + units
        node: Account | None = self
        while node is not None:
            if firm:
                node.firm += units
            if node.quota.user_limit is not None:
                node.capped[user] = node.capped.get(user, 0) + units
            node = node.parent

    def above(self, extra: int = 0) -> int:
        """Units beyond the guarantee, with `extra` more."""
        over = self.used + extra - self.guaranteed
        return over if over > 0 else 0

    def guarantees(self, extra: int) -> bool:
        """Is it still within its guarantee with `extra` more?"""
        return self.used + extra <= self.guaranteed

    def is_capped(self) -> bool:
        """Does it matter here whose work it is? (It, or a team above it, limits what one member may use.)"""
        return any(account.quota.user_limit is not None for account in self.path())

    def path(self) -> tuple["Account", ...]:
        """From just below the root down to this team."""
        steps: list[Account] = []
        node = self
        while node.parent is not None:
            steps.append(node)
            node = node.parent
        return tuple(reversed(steps))


def sides(mine: Account, theirs: Account) -> tuple[Account, Account]:
    """The two children of the lowest common ancestor. Where one team stands above the other, it is its own side."""
    my_path, their_path = mine.path(), theirs.path()
    depth = 0
    while depth < min(len(my_path), len(their_path)) and my_path[depth] is their_path[depth]:
        depth += 1
    return my_path[min(depth, len(my_path) - 1)], their_path[min(depth, len(their_path) - 1)]


class Tree:
    """All accounts of one pool. `open`: nobody has a guarantee here, so there is nobody to whom borrowed work could be
    owed, and work that may not be evicted may run anywhere."""

    def __init__(self, pool: str, teams: Mapping[int, Team], children_first: tuple[int, ...]) -> None:
        self.pool = pool
        self.capacity = -1
        self.root = Account(ROOT, NO_QUOTA, None)
        self.accounts: dict[int, Account] = {ROOT: self.root}
        for team in reversed(children_first):
            quota = next((q for q in teams[team].quotas if q.pool == pool), NO_QUOTA)
            self.accounts[team] = Account(team, quota, self.accounts[teams[team].parent])
        self._upwards = tuple(self.accounts[team] for team in children_first)
        self.open = not any(a.quota.guaranteed or a.quota.percent_milli for a in self._upwards)

    def account(self, team: int) -> Account:
        """A team that the tree does not know hangs under the root without quota."""
        known = self.accounts.get(team)
        if known is None:
            known = self.accounts[team] = Account(team, NO_QUOTA, self.root)
            known.stock = known.kept = 0
        return known

    def set_capacity(self, units: int) -> None:
        """The pool has so much now: percentages, stocks and what is drawn follow at once."""
        if units == self.capacity:
            return
        self.capacity = self.root.guaranteed = self.root.stock = units
        for account in self.accounts.values():
            if account.parent is not None:
                account.stock = 0
        everyone = [*(a for t, a in self.accounts.items() if t and a not in self._upwards), *self._upwards]
        for account in everyone:
            quota = account.quota
            account.guaranteed = quota.guaranteed + units * quota.percent_milli // 100_000
        for account in everyone:
            # A team that states less than its children are guaranteed, or nothing, has what they have together.
            account.guaranteed = account.stock = max(account.guaranteed, account.stock)
            assert account.parent is not None
            if account.parent is not self.root:
                account.parent.stock += account.guaranteed
        for account in everyone:
            # own rest = guarantee minus the children's; of theirs, what they do not keep comes back to the stock
            limit = account.quota.lend_limit
            account.kept = 0 if limit is None else max(0, account.stock - limit)
            assert account.parent is not None
            account.parent.stock -= account.kept + account.guaranteed - account.stock
        self._draw_anew(everyone)

    def _draw_anew(self, everyone: list[Account]) -> None:
        held = [(account, account.direct) for account in (*everyone, self.root)]
        for account, _ in held:
            account.used = account.direct = account.drawn = 0
        for account, units in held:
            if units:
                account.add(units)

    def settle(self, account: Account, user: int, now: int, half_life_s: int) -> None:
        """Bring the decayed means of a team's path and of a member up to `now`, before what they hold changes."""
        self.settle_teams(account, now, half_life_s)
        mean, at = account.user_means.get(user, (0, now))
        account.user_means[user] = (aged(mean, account.users.get(user, 0), now - at, half_life_s), max(now, at))

    def settle_teams(self, account: Account, now: int, half_life_s: int) -> None:
        """The teams' means alone."""
        node: Account | None = account
        while node is not None and node.parent is not None:
            node.mean = aged(node.mean, node.above(), now - node.above_at, half_life_s)
            node.above_at = max(now, node.above_at)
            node = node.parent

    def remember(self, past: Past) -> None:
        account = self.account(past.team)
        if past.user:
            account.user_means[past.user] = (past.mean, past.at)
        else:
            account.mean, account.above_at = past.mean, past.at

    def forget(self) -> None:
        """All means are as if nobody had ever held anything."""
        for account in self.accounts.values():
            account.mean = account.above_at = 0
            account.user_means.clear()

    def memories(self) -> Iterable[Past]:
        """The means as they were last settled, in a total order."""
        for team in sorted(self.accounts):
            account = self.accounts[team]
            if account.mean or account.above_at:
                yield Past(team, 0, self.pool, account.mean, account.above_at)
            for user, (mean, at) in sorted(account.user_means.items()):
                yield Past(team, user, self.pool, mean, at)


def children_first(teams: Mapping[int, Team]) -> tuple[int, ...]:
    """Team ids, every child before its parent. Raises CyclicTeams."""
    depth: dict[int, int] = {ROOT: 0}
    for team in teams:
        chain: list[int] = []
        node = team
        while node not in depth:
            if node not in teams or node in chain:
                raise CyclicTeams(f"team {team} has no way to the root: {' -> '.join(map(str, [*chain, node]))}")
            chain.append(node)
            node = teams[node].parent
        for steps, member in enumerate(reversed(chain), start=1):
            depth[member] = depth[node] + steps
    return tuple(sorted(teams, key=lambda t: (-depth[t], t)))


def common_scales(trees: Mapping[str, Tree]) -> dict[str, dict[int, int]]:
    """Per pool and team the whole number by which (above + past) is multiplied so that shares compare as integers.

    share = (above + past) / (weight * capacity); with the common multiple M of all weights and capacities it is
    (above + past) * M / (weight * capacity). Capacity makes pools comparable, as in Kueue's dominant resource share.
    Weight 0 gets scale 0: last of all, see `ordering`.
    """
    sizes = {pool: max(1, tree.capacity) for pool, tree in trees.items()}
    pools_multiple = lcm(*sizes.values()) if sizes else 1
    weights = {a.quota.weight for tree in trees.values() for a in tree.accounts.values() if a.quota.weight > 0}
    weights_multiple = lcm(*weights) if weights else 1
    return {
        pool: {
            team: (weights_multiple // account.quota.weight) * (pools_multiple // sizes[pool])
            if account.quota.weight > 0
            else 0
            for team, account in tree.accounts.items()
        }
        for pool, tree in trees.items()
    }
