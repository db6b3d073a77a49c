"""Why a job stands where it stands in the queue: the terms of the tournament, for one job, to be stored and shown."""

from dataclasses import dataclass

from scheduling.core.cluster import Cluster
from scheduling.core.ordering import Tournament
from scheduling.core.policy import Policy
from scheduling.core.queue import NEVER
from scheduling.core.standing import terms
from scheduling.core.state import State


@dataclass(frozen=True, slots=True)
class Terms:
    """What puts a job where it stands in the queue, from the strongest term to the weakest; the smaller goes first.

    `levels`: from the top-level team down, (beyond its guarantee with this job, weight 0, share as if admitted), the
    share as a whole number that compares only with its siblings'. `latest_start` counts for accepted deadlines only.
    """

    critical: bool
    tier: int
    levels: tuple[tuple[int, int, int], ...]
    person_share: int
    latest_start: int | None
    priority: int
    size: int
    submitted: int


def terms_of(cluster: Cluster, policy: Policy, now: int, job: int) -> Terms | None:
    """The terms of one waiting job on this snapshot, before anything is decided; None if it does not wait."""
    planner = State(policy)
    planner.load(cluster)
    ask = planner.queue.asks.get(job)
    if ask is None:
        return None
    planner.queue.begin(now, planner.costs_of)
    entry, kind = planner.queue.pairs[job]
    contest = Tournament(planner.queue, planner.trees, now)
    contest.enter(ask.team)
    found = terms(contest.shares, ask.user, (entry, kind))
    levels, person = (found[1:-1], found[-1]) if kind.costs else ((), 0)
    return Terms(
        critical=not entry[0],
        tier=entry[1],
        levels=tuple((levels[i], levels[i + 2], levels[i + 3]) for i in range(0, len(levels), 4)),
        person_share=person,
        latest_start=entry[2] if entry[2] < NEVER else None,
        priority=ask.priority,
        size=entry[4],
        submitted=entry[5],
    )
