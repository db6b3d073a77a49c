"""What can be said of waiting jobs beforehand: will a deadline be met, when does a job start, why does it not?"""

from collections import Counter

from scheduling.core.cluster import Ask, Run
from scheduling.core.explain import sentence
from scheduling.core.forecast import estimate_starts, meets_deadline
from scheduling.core.plan import Planner, plan
from scheduling.core.policy import Policy
from scheduling.core.runtimes import UsedOfLimit


class Outlook:
    """Looks at the planner of a replay, and changes nothing there."""

    def __init__(self, planner: Planner, policy: Policy) -> None:
        self.planner, self.policy = planner, policy
        self._used = UsedOfLimit()

    def ended(self, run: Run, ran_s: int) -> None:
        """Learn from an end how much of their limits such jobs use."""
        self._used.ended(run.ask, ran_s)

    def accepts(self, ask: Ask, now: int) -> bool:
        """Would the live loop accept the deadline of this job, which is just being submitted?"""
        return meets_deadline(self.planner.snapshot(), self.policy, now, ask)

    def starts(self, now: int) -> dict[int, int]:
        """When each waiting job will have started nine times out of ten (the estimate's P90), by number."""
        return estimate_starts(self.planner.snapshot(), self.policy, now, lasting=self._used.late)

    def why_waiting(self, now: int) -> Counter[str]:
        """The reasons for which jobs wait, as people are told them, each with how many."""
        holds = plan(self.planner.snapshot(), self.policy, now).holds
        return Counter(sentence(hold.code, dict(hold.numbers)) for hold in holds)
