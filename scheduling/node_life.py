"""Nodes that fall silent: lost, then fenced, and back again (`observed.py` takes back who answers).

A lost node's containers may still run, so its GPUs stay held until its agent must have ended them: after the lease, the
grace that it gives them, and ten seconds. Agent and network may both be dead, though, and then nothing ends them. So a
job that writes to a volume, which others might then write to as well, is let go only when the node answers again or a
person confirms that the machine is off.

Silence is measured on this process's own CLOCK_BOOTTIME, from when it first saw the last answer: a wall clock that is
set must not fence a cluster. Several processes may watch; each waits at least as long as it should.
"""

import logging
from datetime import datetime

from django.db import transaction

from portal.kernel import clock
from portal.kernel.errors import Conflict, Missing
from scheduling.core.lifecycle import FINAL, EndReason, IllegalMove, JobEvent, JobState
from scheduling.enact import wake_on_commit
from scheduling.models import Allocation, Enrolment, Job, Node, NodeState
from scheduling.observed import release_fenced
from scheduling.transitions import StaleJob, move_job
from scheduling.wiring import wired

log = logging.getLogger("berth.nodes")

GONE_SENTENCE = "The node {node} has not answered for {seconds} s."
_ALIVE = (NodeState.READY, NodeState.CORDONED, NodeState.DRAINING, NodeState.RETURNED)
_AWAY = (NodeState.LOST, NodeState.FENCED)

#: node -> (the answer that was last seen here, when it was first seen on CLOCK_BOOTTIME)
_last: dict[int, tuple[datetime | None, float]] = {}


class NoSuchNode(Missing):
    """There is no enrolled node '{name}'."""


class NodeAnswers(Conflict):
    """The node {name} is {state}, so it cannot be confirmed as switched off; only a lost or fenced one can."""


def watch_nodes(*, now: datetime) -> None:
    """One look at every enrolled node. Call it every few seconds; missing a call costs time, nothing else."""
    at = clock.boottime()
    for node in Node.objects.filter(name__in=Enrolment.objects.values("node_name")):
        answer, since = _last.get(node.pk, (None, at))
        if answer is None or answer != node.seen_at:
            _last[node.pk] = (node.seen_at, at)
            since = at
        silent = at - since
        if node.state in _ALIVE and silent >= wired().lease_s:
            _change(node, NodeState.LOST, returns_to=_before(node))
        elif node.state == NodeState.LOST and silent >= wired().fence_after_s:
            _change(node, NodeState.FENCED)
        if node.state in _AWAY:
            _stop_jobs(node, now)
        if node.state == NodeState.FENCED:
            _free(node, now, volumes_too=False)


def confirm_switched_off(*, name: str, now: datetime) -> int:
    """A person says that the machine is off, or its network unplugged, and stays so until it is joined again: all that
    it held is free. Answers how many containers that were. Raises NoSuchNode, NodeAnswers."""
    node = Node.objects.filter(name=name, name__in=Enrolment.objects.values("node_name")).first()
    if node is None:
        raise NoSuchNode(name=name)
    if node.state not in _AWAY:
        raise NodeAnswers(name=name, state=node.state)
    if node.state == NodeState.LOST:
        _change(node, NodeState.FENCED)
    _stop_jobs(node, now)
    return _free(node, now, volumes_too=True)


def _before(node: Node) -> str:
    """What it comes back as: a node that was cordoned by hand stays cordoned."""
    return node.returns_to if node.state == NodeState.RETURNED else node.state


def _change(node: Node, state: NodeState, **more: str) -> None:
    """Guarded: it must not have answered since we looked."""
    if Node.objects.filter(pk=node.pk, state=node.state, seen_at=node.seen_at).update(state=state, **more):
        node.state = state
        log.warning("node %s: %s", node.name, state)


def _stop_jobs(node: Node, now: datetime) -> None:
    """Whatever has a part there stops with all its parts; those on other nodes are told at once."""
    held = Allocation.objects.filter(node=node, released_at__isnull=True).values("job_id")
    going = [*FINAL, JobState.STOPPING]
    for job in Job.objects.filter(pk__in=held).exclude(state__in=going).order_by("id"):
        try:
            with transaction.atomic():
                move_job(
                    job,
                    JobEvent.STOP,
                    now=now,
                    reason=EndReason.NODE_LOST,
                    code=str(EndReason.NODE_LOST),
                    message=GONE_SENTENCE.format(node=node.name, seconds=wired().lease_s),
                )
                parts = Allocation.objects.filter(job=job, released_at__isnull=True)
                wake_on_commit(set(parts.values_list("node_id", flat=True)))
        except (StaleJob, IllegalMove) as why:
            log.info("job %s on lost node %s: %s; the next look settles it", job.pk, node.name, why)


def _free(node: Node, now: datetime, *, volumes_too: bool) -> int:
    leads = Allocation.objects.filter(node=node, lead=True, released_at__isnull=True, job__state=JobState.STOPPING)
    freed = 0
    for lead in leads.select_related("job").order_by("id"):
        if lead.job.volume and not volumes_too:
            continue
        try:
            release_fenced(lead, now=now)
            freed += 1
        except StaleJob as why:
            log.info("part of job %s on fenced node %s: %s; the next look settles it", lead.job_id, node.name, why)
    return freed
