"""When the plan may differ though nothing happens: hours of teams begin and end."""

from collections.abc import Iterable

from scheduling.core.cluster import Team, Window
from scheduling.core.policy import DAY
from scheduling.core.windows import EPOCH_WEEKDAY


def next_edge(teams: Iterable[Team], now: int) -> int | None:
    """The next time after `now` at which a window of some team opens or closes; None: none has any."""
    return min((_edge(window, now) for team in teams for window in team.windows), default=None)


def _edge(window: Window, now: int) -> int:
    """Some day of the week is open, so one comes within eight days."""
    today, length = now // DAY, (window.ends - window.starts) % DAY or DAY
    opens = (
        day * DAY + window.starts for day in range(today - 1, today + 9) if (day + EPOCH_WEEKDAY) % 7 in window.days
    )
    return min(edge for at in opens for edge in (at, at + length) if edge > now)
