"""Emptying a node of random worlds: everybody there moves or stays, nobody is sent back, what is shown is what is done."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.core.cluster import Run
from scheduling.core.drain import going, plan_drain
from scheduling.core.lifecycle import JobState
from scheduling.core.plan import Planner
from tests.properties.worlds import stories

NOW = 10_000
EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "12"))


def filled(cluster, policy, steps):
    """The world after a plan has placed what fits: those run, the rest waits."""
    planner = Planner(policy, explain=False)
    planner.load(cluster)
    for _, jobs in steps:
        for ask in jobs:
            planner.submit(ask)
    began = NOW - 300
    for place in planner.plan(began).places:
        ask = planner.queue.asks[place.job]
        planner.started(Run(ask, place.parts, began, JobState.RUNNING, began, began, pool=place.pool), now=began)
    return planner.snapshot()


@settings(max_examples=EXAMPLES, deadline=None)
@given(stories(), st.sampled_from((0, NOW + 60, NOW + 5000)), st.data())
def test_everybody_on_the_node_moves_or_stays_and_nobody_is_sent_back_there(story, by, data):
    cluster, policy, steps = story
    world = filled(cluster, policy, steps)
    node = data.draw(st.sampled_from([node.id for node in world.nodes]))
    there = {run.job: run for run in world.runs if any(part.node == node for part in run.parts)}
    drain = plan_drain(world, policy, NOW, node, by=by)

    moves, stays = [move.job for move in drain.moves], [stay.job for stay in drain.stays]
    assert sorted(moves + stays) == sorted(there)
    assert moves == [run.job for run in going(world, policy, NOW, node, by=by)]
    assert drain == plan_drain(world, policy, NOW, node, by=by)

    for move in drain.moves:
        assert there[move.job].ask.preemptible
        assert node not in move.nodes
        assert bool(move.nodes) != (move.hold is not None)
        assert move.starts_at is None or move.starts_at >= NOW
        assert there.keys().isdisjoint(move.evicts) or all(job in stays for job in move.evicts if job in there)
    for stay in drain.stays:
        assert NOW < stay.until <= there[stay.job].ends_by(NOW)
        assert not by or stay.until <= by
        at_that_time = going(world, policy, stay.until, node, by=by)
        assert (stay.job in [run.job for run in at_that_time]) or not stay.leaves
    assert drain.empty_by >= max((stay.until for stay in drain.stays), default=NOW)
    waiting = {ask.job for ask in world.asks}
    assert set(drain.delayed) <= waiting
