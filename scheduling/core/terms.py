"""Why a job stands where it stands in the queue: the terms of the tournament, for one job, to be stored and shown."""

from collections.abc import Iterable
from dataclasses import dataclass

from scheduling.core.cluster import Ask, Cluster
from scheduling.core.ordering import Tournament
from scheduling.core.policy import Policy
from scheduling.core.queue import NEVER, Pair
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
    state = State(policy)
    state.load(cluster)
    return standings(state, now, (job,)).get(job)


def standings(state: State, now: int, jobs: Iterable[int]) -> dict[int, Terms]:
    """The terms of those of these jobs that wait, on a state as it is between plans."""
    waiting = [state.queue.asks[job] for job in jobs if job in state.queue.asks]
    state.queue.begin(now, state.costs_of)
    contest = Tournament(state.queue, state.trees, now)
    for team in sorted({ask.team for ask in waiting}):
        contest.enter(team)
    return {ask.job: _terms(contest, ask, state.queue.pairs[ask.job]) for ask in waiting}


def _terms(contest: Tournament, ask: Ask, pair: Pair) -> Terms:
    entry, kind = pair
    found = terms(contest.shares, ask.user, pair)
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
