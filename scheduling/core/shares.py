"""How large is the share of a team, or of one of its people, if its next job were admitted?

share = (above its guarantee, with the job + decayed past) / (weight x capacity), the largest over all pools (Kueue's
dominant resource share, KAI's decayed over-quota use); whole numbers, see `quota.common_scales`.
"""

from scheduling.core.decay import aged
from scheduling.core.queue import Kind
from scheduling.core.quota import Account, Tree

#: (pool, account, whole number to multiply by, 1 where the weight is 0, decayed mean)
Standing = tuple[str, Account, int, int, int]


class Shares:
    """Shares as the accounts stand at the moment of the question; the past stands as it was when the plan began."""

    def __init__(self, trees: dict[str, Tree], scales: dict[str, dict[int, int]], now: int, half_life_s: int) -> None:
        self.trees, self.scales, self.now, self.half_life = trees, scales, now, half_life_s
        self._teams: dict[int, tuple[Standing, ...]] = {}
        self._people: dict[tuple[int, int], tuple[Standing, ...]] = {}
        for team in {team for tree in trees.values() for team in tree.accounts}:
            self._look_up(team)

    def where(self, kind: Kind) -> tuple[str, int]:
        """(pool, units) where it would be tried first: where it is within its guarantee, else its favourite."""
        costs = kind.costs
        if len(costs) > 1:
            for pool, units in costs:
                if self.trees[pool].account(kind.team).guarantees(units):
                    return pool, units
        return costs[0] if costs else ("", 0)

    def of_team(self, team: int, pool: str, extra: int, *, history: bool = True) -> tuple[int, int]:
        """(weight is 0, share as if `extra` more units were held in `pool`): the largest over all pools."""
        largest = unweighted = 0
        for name, account, scale, weightless, past in self._teams.get(team) or self._look_up(team):
            over = account.used - account.guaranteed
            if name == pool:
                over += extra
            if over < 0:
                over = 0
            if history:
                over += past
            if over > 0:  # a credit may take off more than there is
                unweighted |= weightless
                if over * scale > largest:
                    largest = over * scale
        return unweighted, largest

    def of_person(self, team: int, user: int, pool: str, extra: int) -> int:
        """A person has no guarantee and no weight: what he holds counts, as if `extra` more were his."""
        largest = 0
        for name, account, scale, _, past in self._people[team, user]:
            over = account.users.get(user, 0) + past
            if name == pool:
                over += extra
            if over * scale > largest:
                largest = over * scale
        return largest

    def _look_up(self, team: int) -> tuple[Standing, ...]:
        found = []
        for name, tree in self.trees.items():
            account, scales = tree.account(team), self.scales[name]
            past = 0
            if account.above_at and self.half_life:
                past = aged(account.mean, account.above(), self.now - account.above_at, self.half_life)
            scale = scales.get(team, scales.get(0, 1))
            found.append((name, account, scale or 1, int(not scale), past))
        self._teams[team] = tuple(found)
        return self._teams[team]

    def recall(self, team: int, user: int) -> None:
        """Look a person up, before anything is decided."""
        found = []
        for name, tree in self.trees.items():
            account, past = tree.account(team), 0
            known = account.user_means.get(user)
            if known is not None and self.half_life:
                past = aged(known[0], account.users.get(user, 0), self.now - known[1], self.half_life)
            found.append((name, account, self.scales[name].get(0, 1), 0, past))
        self._people[team, user] = tuple(found)
