"""plan(cluster, policy, now) -> Plan: who gets which place in this cycle, who must stop or be suspended, why others wait.

(The body follows in the next commits; these signatures are fixed.)
"""

from collections.abc import Iterable

from scheduling.core.cluster import Ask, Booking, Claim, Cluster, Node, Run, Team
from scheduling.core.decisions import Plan
from scheduling.core.policy import Policy


def plan(cluster: Cluster, policy: Policy, now: int, *, explain: bool = True) -> Plan:
    """Decide one cycle on a snapshot: a Planner used once."""
    planner = Planner(policy, explain=explain)
    planner.load(cluster)
    return planner.plan(now)


class Planner:
    """The snapshot kept warm: told what changed, it plans exactly what a cold plan on `snapshot()` would."""

    def __init__(self, policy: Policy, *, explain: bool = True) -> None: ...

    def load(self, cluster: Cluster) -> None:
        """Start from a snapshot."""

    def submit(self, ask: Ask) -> None:
        """A job waits: new, requeued, or suspended (with `pinned`). Replaces an earlier ask of the same job."""

    def withdraw(self, job: int) -> None:
        """A waiting job left the queue without a start."""

    def started(self, run: Run, *, now: int) -> None:
        """A waiting job got its place: its ask and its claim go, the run holds from now on."""

    def changed(self, run: Run, *, now: int) -> None:
        """A run moved to another state (RUNNING, SUSPENDING, STOPPING …); its parts are the same as before."""

    def ended(self, job: int, *, now: int) -> None:
        """A run's parts are free (released, or suspended: then `submit` it with `pinned`)."""

    def node_changed(self, node: Node) -> None:
        """A node is new, or accepts work or not, or was cut or labelled anew."""

    def node_removed(self, node: int) -> None: ...

    def teams_changed(self, teams: Iterable[Team]) -> None:
        """The whole team tree with its quotas, anew."""

    def claimed(self, claim: Claim, *, now: int) -> None:
        """A claim of the last plan was stored."""

    def unclaimed(self, job: int, *, now: int) -> None:
        """A claim expired, or its job left."""

    def booked(self, bookings: Iterable[Booking]) -> None:
        """All calendar reservations, anew."""

    def plan(self, now: int) -> Plan: ...

    def snapshot(self) -> Cluster:
        """The cluster as this planner sees it: plan(planner.snapshot(), policy, now) == planner.plan(now)."""
