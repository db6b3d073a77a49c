"""The Philly trace on 123 nodes: teams behind walls, with and without preemption, and teams that lend to each other."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scheduling.core.cluster import Gpu, Node, Pool, Quota, Team
from scheduling.core.policy import Policy, SizeRule, Tier
from scheduling.core.units import GPU_UNITS
from scheduling.simulator.baselines.queueing import replay_baseline
from scheduling.simulator.fitting import fitting_jobs
from scheduling.simulator.history import History
from scheduling.simulator.options import Limits, Options, Suspendable
from scheduling.simulator.report.summary import Figures, figures
from scheduling.simulator.site import Site
from scheduling.simulator.traces import philly
from scheduling.simulator.traces.problems import Problems
from scheduling.simulator.world import World

NODE_GPUS = 8
#: mean wait in seconds, from the table beside the trace (123 nodes, 76 nodes)
PUBLISHED = {"fifo": (41_599, 306_579), "sjf": (7_100, 29_649), "easy": (19_908, 128_480), "srtf": (4_175, 18_758)}
#: seconds lost per preemption for 1, up to 8, and more GPUs
COSTS = ((1, 7), (8, 30), (10**9, 60))


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: what was replayed, our figure, what it is to be compared with."""

    name: str
    figure: str
    compare: str
    reached: bool | None
    seconds: float


def site_of(nodes_of: dict[str, int], *, walls: bool) -> Site:
    """Walls: each virtual cluster's nodes are a pool of their own. Without: one pool, and quotas of the same size."""
    nodes: list[Node] = []
    for vc, count in nodes_of.items():
        for _ in range(count):
            number = len(nodes) + 1
            cards = tuple(Gpu(id=number * NODE_GPUS + place) for place in range(NODE_GPUS))
            nodes.append(Node(number, f"{vc}-{number}", vc if walls else "gpu", 96_000, 1 << 20, cards))
    teams = tuple(
        Team(number, vc, quotas=(Quota(vc if walls else "gpu", guaranteed=count * NODE_GPUS * GPU_UNITS),))
        for number, (vc, count) in enumerate(nodes_of.items(), start=1)
    )
    pools = tuple(Pool(vc) for vc in nodes_of) if walls else (Pool("gpu"),)
    pools_of = {team.id: (team.name,) for team in teams} if walls else {}
    return Site(tuple(nodes), pools, teams, pools_of=pools_of)


class Philly:
    """The trace on one size of the cluster. Every replay is of one process; what it took is CPU time."""

    def __init__(self, folder: Path, size: str) -> None:
        self.nodes_of = philly.read_nodes(folder / f"philly_2017_nodes{size}.csv")
        self.column = 0 if size == "_third" else 1
        self.problems = Problems(skip_bad=True)
        trace = folder / "philly_2017_jobs.csv.gz"
        # The rule of the table: a job whose cluster has no size, or is larger than it, is dropped.
        read = philly.read(trace, self.problems)
        self.jobs = fitting_jobs(read, self._site(walls=True), Policy(), self.problems, str(trace), philly.CALLED)
        self._easy: dict[str, float] = {}

    def _site(self, *, walls: bool) -> Site:
        return site_of(self.nodes_of, walls=walls)

    # ---------------------------------------------------------------------------------------- the replayer itself
    def baselines(self) -> Iterator[Line]:
        for name, published in PUBLISHED.items():
            began = time.process_time()
            history = replay_baseline(name, self._site(walls=True), self.jobs)
            took, mean, wanted = time.process_time() - began, round(history.mean_wait_s), published[self.column]
            if name == "easy":
                self._easy = self._waits(history)
            yield Line(f"replayer: {name}", f"{mean:,} s", f"{wanted:,} s in the table", mean == wanted, took)

    def easy_waits(self) -> dict[str, float]:
        """Mean wait of each team behind its own walls under EASY."""
        if not self._easy:
            self._easy = self._waits(replay_baseline("easy", self._site(walls=True), self.jobs))
        return self._easy

    def _waits(self, history: History) -> dict[str, float]:
        return {team.team: team.mean_wait_s for team in self._figures(history).teams}

    def _figures(self, history: History) -> Figures:
        return figures("berth", history, {team.id: team.name for team in self._site(walls=True).teams})

    # ---------------------------------------------------------------------------------------- the core
    def walls(self) -> Iterator[Line]:
        """No preemption, limits known."""
        history, took = self._replay(Policy(tiers=(Tier("normal"),)), Options(limits=Limits.EXACT))
        yield self._line("walls, limits known, no preemption", history, took, PUBLISHED["easy"][self.column], "EASY")

    def known(self) -> Iterator[Line]:
        """Preemption, run times known, no overhead."""
        tier = Tier("normal", size_rule=SizeRule.SHORTEST, rotate=True)
        options = Options(limits=Limits.EXACT, suspendable=Suspendable.ALL)
        history, took = self._replay(free_turns(tier, turn_s=0), options)
        goal = PUBLISHED["srtf"][self.column] * 12 // 10
        yield self._line("walls, run times known, preemption", history, took, goal, "1.2 x SRTF")

    def unknown(self) -> Iterator[Line]:
        """Nothing known: turns by attained service; without and with a cost per preemption."""
        tier = Tier("normal", size_rule=SizeRule.ATTAINED, rotate=True)
        for name, cost in (("no overhead", ()), ("7, 30, 60 s lost per preemption", COSTS)):
            options = Options(limits=Limits.UNKNOWN, suspendable=Suspendable.ALL, cost_s=cost)
            # A reservation is made from limits: where nothing is known of them, it says nothing.
            policy = replace(free_turns(tier, turn_s=600), reserve_depth=0)
            history, took = self._replay(policy, options)
            goal = 10_000 if not cost else None
            yield self._line(f"walls, nothing known, turns, {name}", history, took, goal, "10,000; SJF 7,100")

    def borrow(self) -> Iterator[Line]:
        """One pool, quotas as large as the walls: idle nodes are lent and taken back."""
        policy = Policy(tiers=(Tier("normal"),), grace_s=0, min_runtime_s=0)
        history, took = self._replay(policy, Options(limits=Limits.EXACT), walls=False)
        yield self._line("lending and reclaim", history, took, 100, "")
        easy, ours = self.easy_waits(), self._waits(history)
        worse = {team: wait - easy[team] for team, wait in ours.items() if wait > easy[team] + 60}
        words = ", ".join(f"{team} +{extra:,.0f} s" for team, extra in sorted(worse.items())) or "none"
        yield Line("teams that wait longer than behind their walls", words, "none (by over 60 s)", not worse, 0.0)

    def _replay(self, policy: Policy, options: Options, *, walls: bool = True) -> tuple[History, float]:
        """Nothing passes a wall, so what lies behind each is a cluster of its own. Answers CPU seconds too."""
        began = time.process_time()
        site = self._site(walls=walls)
        if not walls:
            history = World(site, policy, self.jobs, options).run()
            return history, time.process_time() - began
        together = History(gpus=sum(len(node.gpus) for node in site.nodes))
        for part in _behind_walls(site):
            jobs = [job for job in self.jobs if job.team == part.teams[0].name]
            history = World(part, policy, jobs, options).run()
            together.records += history.records
            together.plans += history.plans
        return together, time.process_time() - began

    def _line(self, name: str, history: History, took: float, goal: int | None, what: str) -> Line:
        ours = self._figures(history)
        lost = f", {ours.gpu_hours_lost:,.0f} GPU-h lost" if ours.gpu_hours_lost else ""
        moved = (
            f", {ours.suspensions:,} suspended, {ours.requeues:,} requeued" if ours.suspensions + ours.requeues else ""
        )
        left = f", {ours.jobs - ours.finished:,} UNFINISHED" if ours.finished < ours.jobs else ""
        reached = None if goal is None else ours.mean_wait_s <= goal and not left
        compare = "" if goal is None else f"at most {goal:,} s" + (f" ({what})" if what else "")
        return Line(name, f"{ours.mean_wait_s:,.0f} s{moved}{lost}{left}", compare, reached, took)


def _behind_walls(site: Site) -> Iterator[Site]:
    for team in site.teams:
        nodes = tuple(node for node in site.nodes if node.pool == team.name)
        yield Site(nodes, (Pool(team.name),), (team,), pools_of={team.id: (team.name,)})


def free_turns(tier: Tier, *, turn_s: int) -> Policy:
    """Work is kept and may go on anywhere, at no cost: the rule of the figures that are compared."""
    return Policy(tiers=(tier,), grace_s=0, turn_s=turn_s, keeps_work=True)
