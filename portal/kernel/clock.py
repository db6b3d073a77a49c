"""The only reader of the machine's clock, so that tests and the simulator can hold time still."""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where `now` comes from; edges ask it once per request, task or tick."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never jump; only differences mean anything."""

    def boottime(self) -> float:
        """Seconds since the machine was started, sleep included: comparable between processes of one boot."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class ManualClock:
    """A clock for tests: it stands still until told to advance."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._seconds = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._seconds

    def boottime(self) -> float:
        return self._seconds

    def advance(self, step: timedelta) -> None:
        self._now += step
        self._seconds += step.total_seconds()


_clock: Clock = SystemClock()


def now() -> datetime:
    return _clock.now()


def monotonic() -> float:
    return _clock.monotonic()


def boottime() -> float:
    return _clock.boottime()


@contextlib.contextmanager
def using(clock: Clock) -> Iterator[Clock]:
    """Swap the clock for the length of a test."""
    global _clock
    before, _clock = _clock, clock
    try:
        yield clock
    finally:
        _clock = before
