"""Slows down guessing: a few failures for one name from one address, more for one address, then a pause.

Counted in the cache, which all processes share where there is more than one. An attempt is counted before the password
is looked at, so that a burst of parallel guesses gains nothing; a success takes its own count back.
"""

import hashlib
from datetime import datetime

from django.core.cache import cache

WINDOW_S = 300
TRIES_PER_NAME = 8
TRIES_PER_ADDRESS = 60


def seconds_to_wait(*, username: str, address: str, now: datetime) -> int:
    """Count this attempt; 0 if it may go on, else the seconds until the next one may."""
    elapsed = int(now.timestamp()) % WINDOW_S
    for key, allowed in _keys(username, address, now):
        cache.add(key, 0, timeout=WINDOW_S + 5)
        if cache.incr(key) > allowed:
            return WINDOW_S - elapsed
    return 0


def forgive(*, username: str, address: str, now: datetime) -> None:
    """The password was right: forget the failures of this name, and this attempt of the address."""
    (by_name, _), (by_address, _) = _keys(username, address, now)
    cache.delete(by_name)
    if cache.get(by_address):
        cache.decr(by_address)


def _keys(username: str, address: str, now: datetime) -> list[tuple[str, int]]:
    window = int(now.timestamp()) // WINDOW_S
    name = hashlib.sha256(f"{username.casefold()}\n{address}".encode()).hexdigest()[:32]
    return [
        (f"login:{window}:name:{name}", TRIES_PER_NAME),
        (f"login:{window}:address:{hashlib.sha256(address.encode()).hexdigest()[:32]}", TRIES_PER_ADDRESS),
    ]
