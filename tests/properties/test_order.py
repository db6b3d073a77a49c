"""The tournament keeps what it knows; a full comparison of everybody before every decision must name the same job."""

from unittest.mock import patch

from hypothesis import given, settings

from scheduling.core.ordering import Tournament
from scheduling.core.queue import NEVER
from tests.properties.test_plan_properties import EXAMPLES, THOROUGH
from tests.properties.toy import Toy
from tests.properties.worlds import stories


def by_full_comparison(tournament, seat):
    """(key as the parent compares it, pair) of the best job below this seat, from scratch."""
    if seat.user:
        found = [
            (tournament._row_key(pair), pair)
            for _, row in seat.rows
            for pair in row.pairs[row.index :]
            if pair[0][7] < min(pair[1].dead_from, pair[1].family.dead_from, (row.dead or {}).get(pair[1], NEVER))
        ]
    else:
        children = ((child, by_full_comparison(tournament, child)) for child in seat.seats)
        found = [(key_of(tournament, child, pair), pair) for child, pair in children if pair is not None]
    return min(found, key=lambda entry: entry[0])[1] if found else None


def key_of(tournament, seat, pair):
    entry, kind = pair
    pool, units = tournament.shares.where(kind)
    if not pool:
        return (entry[0], 1, entry[1], 0, 0, *entry[2:])
    outside = not tournament.trees[pool].account(seat.team).guarantees(units)
    if seat.user:
        share = (0, tournament.shares.of_person(seat.team, seat.user, pool, units))
    else:
        share = tournament.shares.of_team(seat.team, pool, units)
    return (entry[0], outside, entry[1], *share, *entry[2:])


@settings(THOROUGH, max_examples=EXAMPLES // 2)
@given(stories(most_jobs=20))
def test_the_walk_goes_in_the_order_of_a_full_comparison_before_every_decision(story):
    cluster, policy, steps = story
    quick = Tournament.next

    def checked(tournament):
        expected = by_full_comparison(tournament, tournament._root)
        champion = quick(tournament)
        assert champion == expected
        return champion

    with patch.object(Tournament, "next", checked):
        toy = Toy(cluster, policy)
        for seconds, jobs in [*steps, (100, []), (700, [])]:
            for ask in jobs:
                toy.submit(ask)
            toy.step(seconds)
