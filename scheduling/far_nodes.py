"""The exchange with an agent elsewhere: who speaks is checked first, and what has not changed is not told again."""

from datetime import datetime

from django.core.cache import caches

from scheduling.desired import desired_for
from scheduling.enrolment import admit
from scheduling.models import Enrolment, Node
from scheduling.nodes.exchange import Desired, Report
from scheduling.observed import UnknownNode, take_report
from scheduling.wiring import wired

#: the number of nodes is looked up so often, not with every exchange
_COUNT_GOOD_FOR_S = 30


def exchange(enrolment: Enrolment, report: Report, *, now: datetime) -> tuple[Desired, bool]:
    """What should run on the node; True: it is what the agent holds already, and its parts are left out.

    A report that comes late or twice changes nothing, and is answered all the same. Raises OtherNode, SecondAgent.
    """
    if admit(enrolment, report, now=now):
        node = _take(enrolment, report, now)
    else:
        node = Node.objects.filter(name=report.node).first()
    lease_s, interval_s = float(wired().lease_s), interval_for(_count(), lease_s=wired().lease_s)
    if node is None:  # its inventory has not come yet, and so nothing can be meant to run there
        return Desired(version=0, epoch=enrolment.epoch, lease_s=lease_s, interval_s=interval_s), False
    unchanged = (report.held_epoch, report.held_version) == (enrolment.epoch, node.desired_version)
    parts = () if unchanged else desired_for(node).parts
    desired = Desired(
        version=node.desired_version,
        parts=parts,
        epoch=enrolment.epoch,
        lease_s=lease_s,
        interval_s=interval_s,
        gateways=wired().gateways,
        broker=wired().broker_for(enrolment.node_name, enrolment.epoch) if report.unwoken else "",
    )
    return desired, unchanged


def _take(enrolment: Enrolment, report: Report, now: datetime) -> Node | None:
    try:
        return take_report(report, now=now, pool=enrolment.pool)
    except UnknownNode:
        return None


def interval_for(nodes: int, *, lease_s: int) -> float:
    """Seconds between exchanges: 2 up to 100 nodes, 10 at 1,000, in between and beyond in proportion; at most a third
    of the lease, so that two may be lost."""
    wanted = max(2.0, 2.0 + (nodes - 100) * 8 / 900)
    return min(wanted, lease_s / 3)


def _count() -> int:
    count: int = caches["nodes"].get_or_set("count-of-nodes", Node.objects.count, _COUNT_GOOD_FOR_S) or 0
    return count
