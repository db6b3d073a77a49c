"""Celery's edge: a task is one call."""

import itertools
import threading

from celery import shared_task

from portal.kernel import clock
from scheduling import drains, node_life
from scheduling import tick as scheduler

_hints = itertools.count(1)
_latest = 0
_served = 0
_guard = threading.Lock()


def note_hint() -> int:
    """Something changed: the cycle that is under way, if any, may have looked too early. Answers the hint's number."""
    global _latest
    with _guard:
        _latest = next(_hints)
        return _latest


@shared_task(name="scheduling.tick", ignore_result=True)
def tick(hint: int = 0) -> None:
    """Run cycles until no hint is newer than the last look; a hint that was already served costs nothing."""
    global _served
    if hint and hint <= _served:
        return
    while True:
        looked = _latest
        if not scheduler.tick().led:
            return
        _served = max(_served, looked)
        if _latest == looked:
            return


@shared_task(name="scheduling.watch_nodes", ignore_result=True)
def watch_nodes() -> None:
    """Notice which enrolled nodes have fallen silent, and go on emptying those that are to be empty."""
    now = clock.now()
    node_life.watch_nodes(now=now)
    drains.carry_out_drains(now=now)
