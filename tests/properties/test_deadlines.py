"""Weighing a deadline looks no further than the answer needs, and answers what the whole forward run would."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.core.forecast import estimate_starts, meets_deadline
from tests.properties.test_plan_properties import EXAMPLES, THOROUGH
from tests.properties.worlds import stories


def by_the_whole_run(cluster, policy, now, ask) -> bool:
    """The rule as DESIGN states it, with nothing left out."""

    def in_time(other, starts) -> bool:
        return other.job in starts and starts[other.job] + other.limit_s <= other.deadline

    world = replace(cluster, asks=(*cluster.asks, ask))
    before, after = estimate_starts(cluster, policy, now), estimate_starts(world, policy, now)
    kept = [other for other in cluster.asks if other.deadline and in_time(other, before)]
    return in_time(ask, after) and all(in_time(other, after) for other in kept)


@settings(THOROUGH, max_examples=EXAMPLES // 2)
@given(stories(most_jobs=8), st.data())
def test_a_deadline_is_accepted_exactly_where_the_whole_forward_run_keeps_it_and_all_before(story, data):
    empty, policy, steps = story
    now, times = 1000, st.sampled_from((1, 2, 3, 6))
    *others, ask = [
        replace(ask, deadline=ask.deadline and now + data.draw(times) * ask.limit_s)
        for _, jobs in steps
        for ask in jobs
    ]
    ask = replace(ask, deadline=now + data.draw(times) * ask.limit_s)
    world = replace(empty, asks=tuple(others))
    assert meets_deadline(world, policy, now, ask) == by_the_whole_run(world, policy, now, ask)
