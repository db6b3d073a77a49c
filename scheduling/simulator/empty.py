"""Could a job ever run here? Asked of the core itself: one plan on the empty cluster for each distinct ask and team."""

from dataclasses import dataclass, replace

from scheduling.core.cluster import Shape
from scheduling.core.decisions import Cause, HoldCode, Lack
from scheduling.core.explain import sentence
from scheduling.core.plan import Planner
from scheduling.core.policy import Policy
from scheduling.simulator.site import Site
from scheduling.simulator.traces.job import TraceJob

#: what of a job stands in the way, by Berth's own name of it
_LACKING = {
    Lack.POOL: "pools",
    Lack.LABEL: "needs",
    Lack.GPU: "gpus",
    Lack.MODEL: "models",
    Lack.MIG: "mig",
    Lack.GPU_MEMORY: "gpu_memory_mib",
    Lack.COUNT: "gpus",
    Lack.CUT: "gpus",
    Lack.ISLAND: "topology_required",
}
_HELD_BY = {
    HoldCode.GUARANTEE_USED: "preemptible",
    HoldCode.GANG_BUSY: "replicas",
    HoldCode.TOPOLOGY: "topology_required",
    HoldCode.ISLAND_BUSY: "topology_required",
    HoldCode.CPU_BUSY: "cpu_millis",
    HoldCode.MEMORY_BUSY: "memory_mib",
}


@dataclass(frozen=True, slots=True)
class Never:
    """Why not even the empty cluster holds a job: the column that asks for too much, and a sentence."""

    column: str
    why: str


class EmptyCluster:
    """The machines and the rights as if nobody used them, whatever the hours and the calendar: what is refused here
    would wait for ever, and look like a very long wait."""

    def __init__(self, site: Site, policy: Policy) -> None:
        self.site = site
        # What free GPUs keep of a node's CPU is not for ever: work without GPUs gets it once they are in use.
        self._planner = Planner(replace(policy, cpu_kept_percent=0))
        cluster = site.cluster()
        teams = tuple(replace(team, windows=()) for team in cluster.teams)
        nodes = tuple(node for node in cluster.nodes if node.accepts)  # here nothing ever changes that
        self._planner.load(replace(cluster, nodes=nodes, teams=teams, bookings=()))
        self._known: dict[tuple[Shape, int, bool], Cause | None] = {}
        self._alike = site.open_to_all  # without rights of their own, and so one to every decision

    def refuses(self, job: TraceJob) -> Never | None:
        """None: it could run. Errors: NoSuchTeam."""
        team = self.site.team_id(job.team)
        shape = self.site.shape(job, team)
        key = (shape, 0 if self._alike else team, job.preemptible)
        if key not in self._known:
            self._known[key] = self._ask(job)
        cause = self._known[key]
        return (
            None if cause is None else Never(_column(cause, job, self.site), sentence(cause.code, dict(cause.numbers)))
        )

    def _ask(self, job: TraceJob) -> Cause | None:
        ask = self.site.ask(job, 1, limit_s=1, suspendable=False, tier="")
        self._planner.submit(replace(ask, user=1, deadline=0, not_before=0))
        outcome = self._planner.plan(max(1, job.submit_s))
        self._planner.withdraw(1)
        return outcome.holds[0].cause if outcome.holds else None


def _column(cause: Cause, job: TraceJob, site: Site) -> str:
    numbers = dict(cause.numbers)
    if "lacks" in numbers and numbers["lacks"] != Lack.SIZE:
        return _LACKING[Lack(numbers["lacks"])]
    if "lacks" in numbers:
        return (
            "cpu_millis"
            if job.cpu_millis > max(node.cpu_millis for node in site.nodes if node.accepts)
            else "memory_mib"
        )
    if cause.code is HoldCode.SLICES_BUSY:
        return "mig" if job.mig else "gpu_thousandths"
    return _HELD_BY.get(cause.code, "gpus" if job.gpus else "cpu_millis")
