"""Celery's edge: a task is one call."""

from celery import shared_task

from portal.kernel import clock
from scheduling import drains, node_life


@shared_task(name="scheduling.watch_nodes", ignore_result=True)
def watch_nodes() -> None:
    """Notice which enrolled nodes have fallen silent, and go on emptying those that are to be empty."""
    now = clock.now()
    node_life.watch_nodes(now=now)
    drains.carry_out_drains(now=now)
