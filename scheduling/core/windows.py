"""Daily windows of a team: may its jobs start now, and if not, when again? Times of day are UTC."""

from scheduling.core.cluster import Window

DAY = 86_400
#: 1 January 1970 was a Thursday; Monday is 0
_EPOCH_WEEKDAY = 3


def is_open(windows: tuple[Window, ...], now: int) -> bool:
    """No window at all means always."""
    return not windows or opens_at(windows, now) <= now


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
