"""Daily windows of a team: may its jobs start now, and if not, when again? Times of day are UTC."""

from collections.abc import Mapping

from scheduling.core.cluster import Team, Window

DAY = 86_400
#: 1 January 1970 was a Thursday; Monday is 0
_EPOCH_WEEKDAY = 3


def opens_at(windows: tuple[Window, ...], now: int) -> int:
    """The first time from `now` on at which one of the windows is open."""
    today = now // DAY
    best = -1
    for window in windows:
        length = (window.ends - window.starts) % DAY or DAY
        for day in range(today - 1, today + 8):
            if (day + _EPOCH_WEEKDAY) % 7 in window.days:
                starts = day * DAY + window.starts
                if starts + length > now:
                    at = max(now, starts)
                    best = at if best < 0 else min(best, at)
                    break
    return best if best >= 0 else now + 8 * DAY


def windows_of(team: int, teams: Mapping[int, Team]) -> tuple[tuple[Window, ...], ...]:
    """Those of the team and of every team above it that has any: all must be open."""
    found = []
    known = teams.get(team)
    while known is not None:
        if known.windows:
            found.append(known.windows)
        known = teams.get(known.parent)
    return tuple(found)


def all_open_at(windows: tuple[tuple[Window, ...], ...], now: int) -> int:
    """The first time from `now` on at which each of them is open; where they never meet, the last that was looked at,
    about a week ahead."""
    at = now
    while at < now + 8 * DAY:
        latest = max((opens_at(each, at) for each in windows), default=at)
        if latest == at:
            break
        at = latest
    return at
