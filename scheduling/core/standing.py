"""Where everybody stands in the queue at one moment: while nothing is decided the tournament is a sort, by each row's
terms from the root down to the person, then by the jobs' own.
"""

from collections.abc import Iterable, Mapping

from scheduling.core.queue import Key, Pair, Rank, Row
from scheduling.core.shares import Shares

#: the terms down to the team, and the pool and units that they are about
TeamTerms = tuple[Key, str, int]


def standing(shares: Shares, people: Iterable[tuple[int, Mapping[Rank, Row]]]) -> list[Pair]:
    """All jobs of these people (id, rows) in the order in which they stand now."""
    known: dict[tuple[int, Rank], TeamTerms] = {}
    ranked: dict[Key, list[Pair]] = {}
    for user, rows in people:
        for rank, row in rows.items():
            team = row.pairs[0][1].team
            if (team, rank) not in known:
                known[team, rank] = _team_terms(shares, row.pairs[0])
            key = _with_person(shares, known[team, rank], team, user)
            ranked[key] = sorted((*ranked[key], *row.pairs)) if key in ranked else row.pairs
    return [pair for key in sorted(ranked) for pair in ranked[key]]


def terms(shares: Shares, user: int, pair: Pair) -> Key:
    """critical, then per level (beyond its guarantee, tier, weight 0, share), then the person's share."""
    return _with_person(shares, _team_terms(shares, pair), pair[1].team, user)


def _team_terms(shares: Shares, pair: Pair) -> TeamTerms:
    entry, kind = pair
    pool, units = shares.where(kind)
    if not pool:
        return (entry[0], 1, entry[1]), pool, units
    levels: list[int] = []
    for account in shares.trees[pool].account(kind.team).path():
        levels += (not account.guarantees(units), entry[1], *shares.of_team(account.team, pool, units))
    return (entry[0], *levels), pool, units


def _with_person(shares: Shares, known: TeamTerms, team: int, user: int) -> Key:
    terms_, pool, units = known
    return (*terms_, shares.of_person(team, user, pool, units)) if pool else terms_
