"""Daily windows of a team: may its jobs start now, and if not, when again? Times of day are UTC."""

import re
from collections.abc import Iterable, Iterator, Mapping

from scheduling.core.cluster import Team, Window

DAY = 86_400
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")
#: 1 January 1970 was a Thursday; Monday is 0
EPOCH_WEEKDAY = 3


def opens_at(windows: tuple[Window, ...], now: int) -> int:
    """The first time from `now` on at which one of the windows is open."""
    today = now // DAY
    best = -1
    for window in windows:
        length = (window.ends - window.starts) % DAY or DAY
        for day in range(today - 1, today + 8):
            if (day + EPOCH_WEEKDAY) % 7 in window.days:
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


def ever_meet(windows: tuple[tuple[Window, ...], ...]) -> bool:
    """Is there any time of the week at which each of them is open?"""
    at = all_open_at(windows, 0)
    return all(opens_at(each, at) == at for each in windows)


def next_edge(windows: Iterable[Window], now: int) -> int:
    """The first time after `now` at which one of these opens or closes; there is at least one. Some day of the week is
    open, so that comes within eight days."""
    return min(edge for window in windows for edge in _edges(window, now // DAY) if edge > now)


def _edges(window: Window, today: int) -> Iterator[int]:
    length = (window.ends - window.starts) % DAY or DAY
    for day in range(today - 1, today + 9):
        if (day + EPOCH_WEEKDAY) % 7 in window.days:
            yield from (day * DAY + window.starts, day * DAY + window.starts + length)


class NoWindow(ValueError):
    """A text that is no window; the words of the error say what it should look like."""


def window_from(text: str) -> Window:
    """`mon-fri 20:00-06:00`, `sat,sun` (all day), `20:00-06:00` or `daily 20:00-06:00` (any day). Errors: NoWindow."""
    days, starts, ends = tuple(range(7)), 0, DAY
    words = text.split()
    if not 1 <= len(words) <= 2:
        raise NoWindow(_LIKE.format(text=text[:40]))
    span = _SPAN.fullmatch(words[-1])
    if span:
        first, last = int(span[1]) * 60 + int(span[2]), int(span[3]) * 60 + int(span[4])
        if int(span[2]) > 59 or int(span[4]) > 59 or first >= 24 * 60 or last > 24 * 60:
            raise NoWindow(f"'{words[-1][:40]}' has a time that no clock shows; a day is 00:00-24:00")
        starts, ends = first * 60, last * 60
    if len(words) == 2 or not span:
        days = _days(words[0].lower(), text)
    if len(words) == 2 and not span:
        raise NoWindow(_LIKE.format(text=text[:40]))
    return Window(days, starts, ends)


_LIKE = "'{text}' is no window such as 'mon-fri 20:00-06:00', 'sat,sun' or '20:00-06:00'"


def _days(text: str, whole: str) -> tuple[int, ...]:
    """`mon`, `fri-mon` and lists of them, each day once, Monday first; `daily`."""
    if text == "daily":
        return tuple(range(7))
    days: set[int] = set()
    for part in text.split(","):
        first, given, last = part.partition("-")
        if first not in DAYS or (given and last not in DAYS):
            raise NoWindow(_LIKE.format(text=whole[:40]))
        begin, end = DAYS.index(first), DAYS.index(last or first)
        days.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return tuple(sorted(days))


def in_words(window: Window) -> str:
    """As `window_from` reads it."""
    days = "daily" if len(window.days) == 7 else ",".join(DAYS[day] for day in window.days)
    starts, ends = (f"{at // 3600:02}:{at % 3600 // 60:02}" for at in (window.starts, window.ends))
    return f"{days} {starts}-{ends}"
