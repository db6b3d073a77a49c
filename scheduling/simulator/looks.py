"""When the plan may differ though nothing happens: minimum runtimes pass, hours of teams begin and end."""

from collections.abc import Sequence

from scheduling.core.cluster import Team
from scheduling.core.policy import DAY, Policy
from scheduling.core.windows import next_edge

#: within so long all hours come again
WEEK_S = 8 * DAY


class Looks:
    """Says when to look again, while jobs wait. But not for ever: where nothing arrives or ends any more, and a week
    and the longest of all hold-offs have passed, all stays as it is.

    `restless`: a plan is made every `look_s`, because work must first run for its minimum, or may be suspended to take
    turns, and suspending takes time.
    """

    def __init__(self, teams: Sequence[Team], policy: Policy, *, look_s: int) -> None:
        self.teams, self.look_s = teams, look_s
        self.longest_hold = max(policy.min_runtime_s, *(team.min_runtime_s for team in teams), 0)
        self.restless = self.longest_hold > 0
        self._patience = WEEK_S + policy.max_parked_s + policy.no_evict_s
        self._look_at = self._edge_at = self._stirred = -1

    def stirred(self, now: int) -> None:
        """Something has happened."""
        self._stirred = now

    def hold(self, min_runtime_s: int) -> None:
        """A job has a minimum runtime of its own."""
        if min_runtime_s:
            self.restless, self.longest_hold = True, max(self.longest_hold, min_runtime_s)

    def after(self, now: int, *, more: bool, running: bool) -> list[int]:
        """Times after `now` at which to look, those left out that were told before. `more`: something will still arrive
        or end; `running`: something holds a place."""
        if not more and now > self._stirred + self._patience + 3 * self.longest_hold:
            return []
        times = []
        if self.restless and running and self._look_at <= now:
            self._look_at = now + self.look_s
            times.append(self._look_at)
        if self._edge_at <= now:
            windows = [window for team in self.teams for window in team.windows]
            self._edge_at = next_edge(windows, now) if windows else now
            times += [self._edge_at] * bool(windows)
        return times
