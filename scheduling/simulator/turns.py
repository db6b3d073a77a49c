"""When a run can next be taken over by somebody who has been served less, and whether anybody waits for that."""

from collections.abc import Iterable

from scheduling.core.cluster import Ask, Part, Run
from scheduling.core.policy import Policy, SizeRule
from scheduling.core.queue import Queue, size_of


class Turns:
    """`taken`: does any tier take turns at all?"""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.taken = any(tier.rotate for tier in policy.tiers)
        self._by_service = {tier.name for tier in policy.tiers if tier.size_rule is SizeRule.ATTAINED}

    def next_of(self, run: Run, queue: Queue, now: int) -> int | None:
        """The end of its first turn; after that, when its service reaches the next level. None: never again."""
        turn, units = run.held_at + self.policy.turn_s, max(1, units_of(run.parts))
        if now < turn:
            return turn
        if run.ask.tier not in self._by_service:
            return None
        base, service = max(1, self.policy.attained_base), run.ask.attained + units * (now - run.held_at)
        level = size_of(self.policy, queue.tier_of(run.ask), left_s=0, attained=service)
        if level == self.policy.attained_levels - 1:
            return None
        return now + max(1, -(-((base << 2 * level) - service) // units))

    def wanted(self, run: Run, queue: Queue, now: int, waiting: Iterable[Ask]) -> bool:
        """Is anybody waiting who comes before this run by the size rule, and could use its pool?"""
        ran, tier = now - run.running_at, queue.tier_of(run.ask)
        attained = run.ask.attained + units_of(run.parts) * ran
        size = size_of(self.policy, tier, left_s=run.ask.limit_s - ran, attained=attained)
        return any(
            ask.tier == run.ask.tier
            and (not ask.shape.pools or run.pool in ask.shape.pools)
            and size_of(self.policy, tier, left_s=ask.limit_s, attained=ask.attained) < size
            for ask in waiting
        )


def units_of(parts: tuple[Part, ...]) -> int:
    """GPU units that these hold together."""
    return sum(piece.units for part in parts for piece in part.pieces)
