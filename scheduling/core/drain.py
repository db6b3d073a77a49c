"""What it means to empty a node: who moves, who waits, who stays until when. The same functions show the plan before it
is confirmed and carry it out, so what was shown is what happens, as far as nothing else changes meanwhile.

Work that may be evicted leaves as soon as it is past its minimum runtime: stopped with the usual grace, it goes back to
the queue where it was, not calmed down as after an eviction, for it was in nobody's way. Other work runs to its end, or
until the deadline of the drain.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from scheduling.core.cluster import Ask, Cluster, Outcome, Run, Team, requeued
from scheduling.core.decisions import Claim, Hold, Place, Plan
from scheduling.core.forecast import estimate_starts
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.core.plan import plan
from scheduling.core.policy import Policy


@dataclass(frozen=True, slots=True)
class Move:
    """A job that leaves now. `nodes`: where it goes on, once those whom it `evicts` have gone. Empty: it has to wait,
    `hold` says why, and `starts_at` when it starts if nothing new comes (None: not within a month)."""

    job: int
    nodes: tuple[int, ...] = ()
    hold: Hold | None = None
    starts_at: int | None = None
    evicts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Stay:
    """A job that stays for a while: `until` at the latest. `leaves`: it is stopped then and goes back to the queue;
    else that is when its time limit ends it."""

    job: int
    until: int
    leaves: bool


@dataclass(frozen=True, slots=True)
class Drain:
    """The plan of emptying one node. `delayed`: waiting jobs that would start now if the node were kept. `empty_by`:
    when nothing is left there, at the latest."""

    node: int
    moves: tuple[Move, ...]
    stays: tuple[Stay, ...]
    delayed: tuple[int, ...]
    empty_by: int


def leaves_at(run: Run, teams: Iterable[Team], policy: Policy, now: int) -> int | None:
    """When this run may be sent away from a node that is being emptied, now or later; None: only by the deadline."""
    if not run.ask.preemptible:
        return None
    own = next((team.min_runtime_s for team in teams if team.id == run.ask.team), 0) or policy.min_runtime_s
    spared = max(run.ask.min_runtime_s, own)
    return now if run.state is JobState.PLACED else max(now, (run.running_at or now) + spared)


def going(cluster: Cluster, policy: Policy, now: int, node: int, *, by: int = 0) -> tuple[Run, ...]:
    """Who has to leave the node at this moment, by job. `by`: the deadline of the drain, 0 for none."""
    return tuple(run for run in _on(cluster, node) if _leaves(run, cluster, policy, now, by) <= now)


def plan_drain(cluster: Cluster, policy: Policy, now: int, node: int, *, by: int = 0) -> Drain:
    """The plan on the snapshot with the node gone. `by`: when the rest has to leave, 0 for never."""
    leaving = going(cluster, policy, now, node, by=by)
    without = _without(cluster, node, leaving, policy, now)
    after = plan(without, policy, now)
    placed = {place.job for place in after.places}
    waits = any(run.job not in placed for run in leaving)
    starts = estimate_starts(without, policy, now) if waits else {}
    here = _on(cluster, node)
    left = [run for run in here if run not in leaving and run.state is not JobState.STOPPING]
    stays = tuple(_stay(run, cluster, policy, now, by) for run in left)
    kept = {place.job for place in plan(cluster, policy, now, explain=False).places}
    return Drain(
        node=node,
        moves=tuple(_move(run, after, starts) for run in leaving),
        stays=stays,
        delayed=tuple(sorted(kept - placed)),
        empty_by=max((stay.until for stay in stays), default=now) + (policy.grace_s if here else 0),
    )


def _on(cluster: Cluster, node: int) -> list[Run]:
    runs = [run for run in cluster.runs if any(part.node == node for part in run.parts)]
    return sorted(runs, key=lambda run: run.job)


def _leaves(run: Run, cluster: Cluster, policy: Policy, now: int, by: int) -> int:
    """When it is sent away, or a time that never comes."""
    never = run.ends_by(now) + 1
    if run.state is JobState.STOPPING:
        return never
    at = leaves_at(run, cluster.teams, policy, now)
    times = [time for time in (at, by or None) if time is not None]
    return min(times, default=never)


def _stay(run: Run, cluster: Cluster, policy: Policy, now: int, by: int) -> Stay:
    at, end = _leaves(run, cluster, policy, now, by), run.ends_by(now)
    return Stay(run.job, min(at, end), leaves=at < end)


def _without(cluster: Cluster, node: int, leaving: tuple[Run, ...], policy: Policy, now: int) -> Cluster:
    """The node accepts nothing, and whoever leaves it waits in the queue already."""
    away = {run.job for run in leaving}
    back: list[Ask] = [requeued(r, now=now, outcome=Outcome.FAULT, no_evict_s=policy.no_evict_s) for r in leaving]
    return replace(
        cluster,
        nodes=tuple(replace(n, accepts=False, draining=True) if n.id == node else n for n in cluster.nodes),
        runs=tuple(run for run in cluster.runs if run.job not in away),
        asks=(*cluster.asks, *back),
        claims=tuple(claim for claim in cluster.claims if all(part.node != node for part in claim.parts)),
    )


def _move(run: Run, after: Plan, starts: dict[int, int]) -> Move:
    job = run.job
    decided: list[Place | Claim] = [*after.places, *after.claims]
    for gets in decided:
        if gets.job == job:
            evicts = tuple(s.job for s in after.stops if s.beneficiary == job and s.reason is EndReason.EVICT)
            return Move(job, nodes=tuple(sorted({part.node for part in gets.parts})), evicts=evicts)
    hold = next((hold for hold in after.holds if hold.job == job), None)
    return Move(job, hold=hold, starts_at=starts.get(job))
