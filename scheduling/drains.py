"""Taking a node out of use and back: cordon, drain, return. Who leaves, and when, is `core/drain.py`'s to say; here it
is shown with names, and carried out: `carry_out_drains` is called every few seconds and stops whoever's time has come.

A node that does not answer keeps its state, lost or fenced, until it does; what is asked of it meanwhile it comes back
as.
"""

import logging
from datetime import datetime

from django.db import transaction
from django.db.models import F

from portal.kernel.errors import Conflict, Missing, Rejected
from portal.kernel.publish import publish
from scheduling.core.drain import Drain, going, plan_drain
from scheduling.core.lifecycle import EndReason, IllegalMove, JobEvent
from scheduling.enact import wake_on_commit
from scheduling.models import Allocation, Job, Node, NodeState
from scheduling.news import tell
from scheduling.shaping import DRAINED, seconds
from scheduling.snapshot import load_cluster, load_runs_on
from scheduling.transitions import StaleJob, move_job
from scheduling.wiring import wired
from tenants.models import User
from tenants.permissions import may_run_nodes

log = logging.getLogger("berth.nodes")

SENTENCE = "The machine {node} is being emptied."
_AWAY = (NodeState.LOST, NodeState.FENCED, NodeState.RETURNED)


class NoSuchMachine(Missing):
    """There is no machine called '{name}'."""


class MachineChanged(Conflict):
    """The machine {name} changed in this very moment; look at it again."""


class AlreadySo(Conflict):
    """The machine {name} is {state} already."""


class DeadlinePassed(Rejected):
    """The time by which the machine is to be empty has passed; choose a later one."""

    field = "until"


def machine_of(by: User | None, name: str) -> Node:
    """The node, for a person who may run nodes; None: whoever is at the portal's own console. Raises NoSuchMachine, to
    others as well."""
    node = Node.objects.select_related("pool").filter(name=name).first()
    if node is None or (by is not None and not may_run_nodes(by)):
        raise NoSuchMachine(name=name)
    return node


def show_drain(*, by: User | None, name: str, until: datetime | None, now: datetime) -> Drain:
    """What emptying the node would mean, as of this moment. Changes nothing. Raises NoSuchMachine, DeadlinePassed."""
    node = machine_of(by, name)
    _see_deadline(until, now)
    return plan_drain(load_cluster(now, emptying=node.pk), wired().policy, seconds(now), node.pk, by=seconds(until))


def drain_node(*, by: User | None, name: str, until: datetime | None, now: datetime) -> Node:
    """Empty the node: nothing new starts there, what may move leaves now, the rest at its end or by `until`. Repeated,
    it changes `until`. Raises NoSuchMachine, DeadlinePassed, MachineChanged."""
    node = machine_of(by, name)
    _see_deadline(until, now)
    with transaction.atomic():
        _set(node, NodeState.DRAINING, by, drain_by=until)
        for job in Job.objects.filter(allocations__node=node, allocations__released_at__isnull=True).distinct():
            tell(job)
    carry_out_drains(now=now)
    return node


def cordon_node(*, by: User | None, name: str) -> Node:
    """Nothing new starts there; what runs goes on. Raises NoSuchMachine, AlreadySo, MachineChanged."""
    node = machine_of(by, name)
    _see_change(node, NodeState.CORDONED)
    with transaction.atomic():
        _set(node, NodeState.CORDONED, by, drain_by=None)
    return node


def return_node(*, by: User | None, name: str) -> Node:
    """It takes work again. Raises NoSuchMachine, AlreadySo, MachineChanged."""
    node = machine_of(by, name)
    _see_change(node, NodeState.READY)
    with transaction.atomic():
        _set(node, NodeState.READY, by, drain_by=None)
    return node


def state_asked_for(node: Node) -> str:
    """What it is, or comes back as once it answers."""
    return (node.returns_to or NodeState.READY) if node.state in _AWAY else node.state


def carry_out_drains(*, now: datetime) -> int:
    """One look at every node that is being emptied; answers how many jobs were told to leave. Safe to repeat."""
    told = 0
    for node in Node.objects.filter(state=NodeState.DRAINING).order_by("id"):
        runs = going(load_runs_on(node.pk), wired().policy, seconds(now), node.pk, by=seconds(node.drain_by))
        told += sum(_send_away(node, run.job, now) for run in runs)
    return told


def _send_away(node: Node, job_id: int, now: datetime) -> bool:
    job = Job.objects.get(pk=job_id)
    try:
        with transaction.atomic():
            message = SENTENCE.format(node=node.name)
            move_job(job, JobEvent.STOP, now=now, reason=EndReason.EVICT, code=DRAINED, message=message)
            parts = Allocation.objects.filter(job=job, released_at__isnull=True)
            wake_on_commit(set(parts.values_list("node_id", flat=True)))
    except (StaleJob, IllegalMove) as why:
        log.info("job %s on draining node %s: %s; the next look settles it", job_id, node.name, why)
        return False
    return True


def _see_deadline(until: datetime | None, now: datetime) -> None:
    if until is not None and until <= now:
        raise DeadlinePassed()


def _see_change(node: Node, state: NodeState) -> None:
    if state_asked_for(node) == state:
        raise AlreadySo(name=node.name, state=state)


def _set(node: Node, state: NodeState, by: User | None, *, drain_by: datetime | None) -> None:
    """Guarded: it must still be what we saw. Counts up its desired state, so that its agent looks at once."""
    fields: dict[str, object] = {"drain_by": drain_by, "desired_version": F("desired_version") + 1}
    fields |= {"returns_to": state} if node.state in _AWAY else {"state": state}
    if not Node.objects.filter(pk=node.pk, state=node.state, returns_to=node.returns_to).update(**fields):
        raise MachineChanged(name=node.name)
    node.refresh_from_db()
    log.warning("node %s: %s, asked for by %s", node.name, state, by or "the console")
    publish("node", node.pk)
    transaction.on_commit(wired().hint_tick)
