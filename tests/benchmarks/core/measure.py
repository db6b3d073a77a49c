"""One case measured: cold plans, and warm ones after a part of the jobs has changed.

CPU seconds of this process. A planner lets the garbage collector wait while it loads and plans, here as anywhere else;
what it collects afterwards, between plans, is not part of the figures. Medians are told, and the span from the quickest
to the slowest round.
"""

import gc
import os
import platform
import resource
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import median
from time import process_time

from scheduling.core.cluster import Cluster, Run
from scheduling.core.decisions import Plan
from scheduling.core.lifecycle import JobState
from scheduling.core.plan import Planner
from scheduling.core.policy import Policy
from tests.benchmarks.core.queues import NOW, a_shape, a_wish

#: warm plans that settle what a random start has upset, before any is counted
SETTLE = 3


def machine() -> str:
    """The size of this machine, as far as it matters for the figures."""
    words = Path("/proc/meminfo").read_text().split() if Path("/proc/meminfo").exists() else []
    memory = f"{int(words[1]) / 2**20:.0f} GiB memory" if words[:1] == ["MemTotal:"] else "memory not known"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores, {memory}, Python {platform.python_version()}, load {load}"


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each round."""

    rounds: tuple[float, ...]

    @property
    def middle(self) -> float:
        return median(self.rounds)

    def __str__(self) -> str:
        return f"{self.middle:.3f} s ({min(self.rounds):.3f} to {max(self.rounds):.3f})"


@dataclass(frozen=True, slots=True)
class Measured:
    """`cold`: loading a snapshot and planning it; `load`: the loading alone; `warm`: plans of a kept planner."""

    cold: Times
    load: Times
    warm: Times | None
    outcome: Plan

    def __str__(self) -> str:
        parts = [f"cold {self.cold}, of which load {self.load.middle:.3f}"]
        if self.warm is not None:
            parts.append(f"warm {self.warm}")
        plan = self.outcome
        parts.append(
            f"{len(plan.places)} placed, {len(plan.claims)} claims, {len(plan.reserves)} reserved, "
            f"{len(plan.holds)} held"
        )
        parts.append(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")
        return "; ".join(parts)


def measure(cluster: Cluster, *, rounds: int, changes: float = 0.0) -> Measured:
    """Cold plans of one snapshot, then warm ones with `changes` of the jobs new or gone before each."""
    cold, load = [], []
    planner = None
    for _ in range(rounds):
        planner = None  # the last round's is let go before the next is timed
        gc.collect()
        started = process_time()
        planner = Planner(Policy())
        planner.load(cluster)
        loaded = process_time()
        outcome = planner.plan(NOW)
        cold.append(process_time() - started)
        load.append(loaded - started)
    assert planner is not None, "there is one round at least"
    warm = _warm(planner, int(len(cluster.asks) * changes / 2), rounds) if changes else None
    return Measured(Times(tuple(cold)), Times(tuple(load)), warm, outcome)


def _warm(planner: Planner, changed: int, rounds: int) -> Times:
    """Plans after so many runs have ended and as many jobs have come, beside all that the plan before has decided."""
    random, times = Random(5), []
    job = 5_000_000
    stopping: list[int] = []
    for cycle in range(1, SETTLE + rounds + 1):
        now = NOW + 10 * cycle
        started = process_time()
        outcome = planner.plan(now)
        times.append(process_time() - started)
        _carry_out(planner, outcome, stopping, now)
        stopping = [stop.job for stop in outcome.stops]
        candidates = sorted(set(planner.runs) - set(stopping))
        for _ in range(changed):
            planner.ended(candidates.pop(random.randrange(len(candidates))), now=now)
            planner.submit(a_wish(random, job, a_shape(random), 20, 10))
            job += 1
    return Times(tuple(times[SETTLE:]))


def _carry_out(planner: Planner, outcome: Plan, stopping: list[int], now: int) -> None:
    """What the plan says happens; those that were told to stop the last time are gone."""
    for place in outcome.places:
        wish = planner.queue.asks[place.job]
        planner.started(Run(wish, place.parts, held_at=now, running_at=now), now=now)
    for victim in stopping:
        planner.ended(victim, now=now)
    for claim in outcome.claims:
        planner.claimed(claim, now=now)
    for stop in outcome.stops:
        planner.changed(replace(planner.runs[stop.job], state=JobState.STOPPING), now=now)
