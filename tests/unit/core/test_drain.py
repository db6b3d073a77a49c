"""Emptying a node: who goes on where, who has to wait, who stays until when; shown and done by the same rule."""

from dataclasses import replace

from scheduling.core.cluster import Quota, Team
from scheduling.core.decisions import HoldCode
from scheduling.core.drain import going, plan_drain
from scheduling.core.lifecycle import JobState
from scheduling.core.policy import Policy
from scheduling.core.units import GPU_UNITS
from tests.pictures import LIMIT, ask, cluster, letter

NOW = 1000
A, B, C = letter("a"), letter("b"), letter("c")
POLICY = Policy(grace_s=30, min_runtime_s=0)
TEAM = Team(1, "red", quotas=(Quota("gpu", guaranteed=4 * GPU_UNITS),))
BLUE = Team(2, "blue", quotas=(Quota("gpu", guaranteed=0),))


def job(**more):
    return ask(0, gpus=1, team=1, **more)


def world(picture, *asks, **drawn):
    return cluster(picture, *asks, drawn=drawn, teams=(TEAM, BLUE))


def test_what_fits_elsewhere_moves_there_and_the_node_is_empty_after_the_grace():
    drain = plan_drain(world("n1 a. | n2 ..", a=job()), POLICY, NOW, 1)
    assert [(move.job, move.nodes, move.evicts) for move in drain.moves] == [(A, (2,), ())]
    assert (drain.stays, drain.delayed, drain.empty_by) == ((), (), NOW + 30)


def test_what_fits_nowhere_else_waits_with_its_reason_and_its_start():
    drain = plan_drain(world("n1 a | n2 b", a=job(), b=job(limit=5000)), POLICY, NOW, 1)
    (move,) = drain.moves
    assert (move.nodes, move.hold.code) == ((), HoldCode.GPUS_BUSY)
    assert move.starts_at == 5001  # b's limit ends


def test_what_can_never_run_without_the_node_says_so():
    (move,) = plan_drain(world("n1 aa | n2 .", a=ask(0, gpus=2, team=1)), POLICY, NOW, 1).moves
    assert (move.nodes, move.starts_at) == ((), None)
    assert move.hold is not None


def test_what_may_not_be_evicted_stays_to_its_limit():
    drain = plan_drain(world("n1 ab | n2 ..", a=job(preemptible=False), b=job()), POLICY, NOW, 1)
    assert [(stay.job, stay.until, stay.leaves) for stay in drain.stays] == [(A, 1 + LIMIT, False)]
    assert [move.job for move in drain.moves] == [B]
    assert drain.empty_by == 1 + LIMIT + 30


def test_a_deadline_sends_away_what_is_left():
    there = world("n1 a | n2 ..", a=job(preemptible=False))
    drain = plan_drain(there, POLICY, NOW, 1, by=NOW + 600)
    assert [(stay.job, stay.until, stay.leaves) for stay in drain.stays] == [(A, NOW + 600, True)]
    assert drain.empty_by == NOW + 630
    assert going(there, POLICY, NOW + 599, 1, by=NOW + 600) == ()
    assert [run.job for run in going(there, POLICY, NOW + 600, 1, by=NOW + 600)] == [A]


def test_what_is_inside_its_minimum_runtime_stays_until_that_is_over():
    there = world("n1 a | n2 ..", a=job(min_runtime_s=2000))
    drain = plan_drain(there, POLICY, NOW, 1)
    assert [(stay.job, stay.until, stay.leaves) for stay in drain.stays] == [(A, 2001, True)]
    assert [run.job for run in going(there, POLICY, 2001, 1)] == [A]


def test_guaranteed_work_takes_back_what_others_borrow_elsewhere():
    there = world("n1 a | n2 b", a=job(), b=ask(0, gpus=1, team=2))
    (move,) = plan_drain(there, POLICY, NOW, 1).moves
    assert (move.nodes, move.evicts) == ((2,), (B,))


def test_a_job_that_waits_and_would_have_started_here_is_delayed():
    drain = plan_drain(world("n1 .. | n2 b", ask(7, gpus=2, team=1), b=job()), POLICY, NOW, 1)
    assert (drain.moves, drain.delayed) == ((), (7,))


def test_a_gang_with_one_part_there_moves_whole():
    there = world("n1 a. | n2 a. | n3 ..", a=ask(0, gpus=1, replicas=2, team=1))
    (move,) = plan_drain(there, POLICY, NOW, 1).moves
    assert len(move.nodes) >= 1
    assert 1 not in move.nodes


def test_what_stops_already_is_neither_moved_nor_kept():
    there = world("n1 a | n2 .", a=job())
    there = replace(there, runs=tuple(replace(run, state=JobState.STOPPING, since=NOW) for run in there.runs))
    drain = plan_drain(there, POLICY, NOW, 1)
    assert (drain.moves, drain.stays, drain.empty_by) == ((), (), NOW + 30)


def test_an_empty_node_is_empty_at_once():
    assert plan_drain(world("n1 . | n2 b", b=job()), POLICY, NOW, 1).empty_by == NOW


def test_the_plan_of_the_same_snapshot_is_the_same():
    there = world("n1 abc | n2 ...", a=job(), b=job(preemptible=False), c=job())
    assert plan_drain(there, POLICY, NOW, 1) == plan_drain(there, POLICY, NOW, 1)
