"""Arrivals only, through the core's own plan: each job is planned for once, when it comes; what then waits is dropped.

The counterpart of `baselines/arrivals.py`, for traces whose protocol has no departures.
"""

from collections.abc import Callable, Iterable

from scheduling.core.cluster import Gpu, Node, Pool, Run, Team
from scheduling.core.fragmentation import Mix
from scheduling.core.plan import Planner
from scheduling.core.policy import DAY, Policy, Tier
from scheduling.simulator.baselines.arrivals import Arrived
from scheduling.simulator.site import Site
from scheduling.simulator.traces.job import WHOLE, TraceJob
from scheduling.simulator.traces.openb import TraceNode

FOREVER_S = 36_500 * DAY


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
    """Without reservations, because nothing ever ends for which one could be made."""
    planner = Planner(Policy(tiers=(Tier("normal"),), reserve_depth=0), explain=False)
    planner.load(site.cluster())
    held, dropped, mix, handed = 0, list[str](), Mix(), 0
    for number, job in enumerate(jobs, start=1):
        now = 1 + job.submit_s
        ask = site.ask(job, number, limit_s=FOREVER_S, suspendable=False, tier="normal")
        mix.saw(ask.shape)
        if mix.version != handed:
            handed = mix.version
            planner.mixed(mix.counted())
        planner.submit(ask)
        placed = [place for place in planner.plan(now).places if place.job == number]
        if placed:
            planner.started(
                Run(ask=ask, parts=placed[0].parts, held_at=now, running_at=now, pool=placed[0].pool), now=now
            )
            held += job.milli_gpus
        else:
            planner.withdraw(number)
            dropped.append(job.id)
        if watch is not None:
            watch(number)
    return Arrived(held, sum(len(node.gpus) for node in site.nodes) * WHOLE, tuple(dropped))
