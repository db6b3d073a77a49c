"""Run times learned from past ends, for estimates: how much of their limits jobs really use."""

from collections import deque

from scheduling.core.cluster import Ask

LAST, ENOUGH = 200, 20
WHOLE_LIMIT = 1_000_000  # millionths of a limit: a job without a limit of its own has one of a month
LATE_PERCENT = 90


class UsedOfLimit:
    """Of the last 200 ends of the narrowest group that has at least 20 (person, team, everybody)."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, int], deque[int]] = {}

    def ended(self, ask: Ask, ran_s: int) -> None:
        used = min(WHOLE_LIMIT, -(-ran_s * WHOLE_LIMIT // max(1, ask.limit_s)))
        for group in ((ask.team, ask.user), (ask.team, 0), (0, 0)):
            self._ends.setdefault(group, deque(maxlen=LAST)).append(used)

    def at(self, ask: Ask, percent: int) -> int:
        """Seconds that so many percent of the jobs like this one do not exceed; its limit until enough is known."""
        for group in ((ask.team, ask.user), (ask.team, 0), (0, 0)):
            ends = self._ends.get(group, ())
            if len(ends) >= ENOUGH:
                used = sorted(ends)[min(len(ends) - 1, len(ends) * percent // 100)]
                return max(1, -(-ask.limit_s * used // WHOLE_LIMIT))
        return ask.limit_s

    def late(self, ask: Ask) -> int:
        """The 90th percentile, which promises are made with."""
        return self.at(ask, LATE_PERCENT)
