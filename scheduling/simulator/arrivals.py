"""Arrivals only, through the core's own plan: each job is planned for once; what then waits is dropped.

The counterpart of `baselines/arrivals.py`, for traces whose protocol has no departures.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from scheduling.core.cluster import Ask, Gpu, Node, Pool, Run, Team
from scheduling.core.fragmentation import Mix
from scheduling.core.plan import Planner
from scheduling.core.policy import DAY, Policy, Tier
from scheduling.simulator.baselines.arrivals import Arrived
from scheduling.simulator.site import Site
from scheduling.simulator.traces.job import WHOLE, TraceJob
from scheduling.simulator.traces.openb import TraceNode

FOREVER_S = 36_500 * DAY
#: so many arrivals are planned for in one go
TOGETHER = 200


def site_of(nodes: Iterable[TraceNode], team: str = "") -> Site:
    """One pool with all nodes, one team without quota."""
    made: list[Node] = []
    gpus = 0
    for number, node in enumerate(nodes, start=1):
        cards = tuple(Gpu(id=gpus + place, model=node.model) for place in range(1, node.gpus + 1))
        gpus += node.gpus
        made.append(Node(number, node.name, "gpu", node.cpu_millis, node.memory_mib, cards))
    return Site(tuple(made), (Pool("gpu"),), (Team(1, team),))


def replay_arrivals(jobs: Iterable[TraceJob], site: Site, watch: Callable[[int], None] | None = None) -> Arrived:
    """Without reservations, because nothing ever ends for which one could be made. Told of `watch`: arrivals so far."""
    floor = _Floor(site)
    for job in jobs:
        floor.arrive(job)
        if watch is not None and not floor.waiting:
            watch(floor.count)
    floor.plan()
    return Arrived(floor.held, sum(len(node.gpus) for node in site.nodes) * WHOLE, tuple(floor.dropped))


class _Floor:
    """Arrivals are planned for some at a time, as they stand in the line: nothing ends between them, so one plan for
    many decides what a plan for each would. Only the mix of asks seen so far is renewed between two plans: it never
    knows more than those who have come."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.planner = Planner(Policy(tiers=(Tier("normal"),), reserve_depth=0), explain=False)
        self.planner.load(site.cluster())
        self.mix = Mix()
        self.count = self.held = 0
        self.dropped: list[str] = []
        self.waiting: dict[int, tuple[TraceJob, Ask]] = {}

    def arrive(self, job: TraceJob) -> None:
        self.count += 1
        ask = self.site.ask(job, self.count, limit_s=FOREVER_S, suspendable=False, tier="normal")
        # They come in the order of the file, whatever their times say.
        ask = replace(ask, submitted=self.count)
        known = self.mix.version
        self.mix.saw(ask.shape)
        if self.mix.version != known:
            self.plan()
            self.planner.mixed(self.mix.counted())
        self.waiting[self.count] = job, ask
        self.planner.submit(ask)
        if len(self.waiting) == TOGETHER:
            self.plan()

    def plan(self) -> None:
        """Place whoever waits; who finds no place now never will, and is dropped."""
        now = self.count + 1
        for place in self.planner.plan(now).places if self.waiting else ():
            job, ask = self.waiting.pop(place.job)
            run = Run(ask=ask, parts=place.parts, held_at=now, running_at=now, pool=place.pool)
            self.planner.started(run, now=now)
            self.held += job.milli_gpus
        for number, (job, _) in self.waiting.items():
            self.planner.withdraw(number)
            self.dropped.append(job.id)
        self.waiting.clear()
