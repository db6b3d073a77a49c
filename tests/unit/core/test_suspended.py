"""Suspended work: what it saved lies in its node's memory, and the cards above it go only to who can leave in time."""

from dataclasses import replace

import pytest

from scheduling.core.cluster import Part, Piece, Quota, Team
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.core.plan import Planner, plan
from scheduling.core.policy import Policy, SizeRule, Tier
from scheduling.core.units import GPU_UNITS
from tests.pictures import MEMORY_PER_NODE, ask, cluster, letter

OWNER, BORROWER = 1, 2
NOW = 1000
GIB = 1024
TEAMS = (Team(OWNER, "owner", 0, (Quota("gpu", percent_milli=100_000),)), Team(BORROWER, "borrower"))
POLICY = Policy(max_parked_s=3600)


def theirs(**more):
    return ask(9, gpus=1, memory=GIB, team=BORROWER, user=20, suspendable=True, saved_mib=40 * GIB, **more)


def parked(job=5, *, gpu=1, since=NOW, memory=GIB, saved=40 * GIB, **more):
    """A suspended job that waits for this card of node 1."""
    pinned = (Part(1, (Piece(gpu, GPU_UNITS),), 1000, memory),)
    return replace(ask(job, gpus=1, memory=memory, team=BORROWER, user=20, suspendable=True, **more),
                   pinned=pinned, suspended_at=since, saved_mib=saved)  # fmt: skip


def started(outcome):
    return sorted(place.job for place in outcome.places)


def holding(world, *jobs):
    """The drawn runs hold a GiB of memory each."""
    runs = tuple(replace(run, parts=tuple(replace(p, memory_mib=GIB) for p in run.parts)) for run in world.runs)
    return replace(world, runs=runs, asks=jobs or world.asks)


def test_what_a_suspended_job_saved_is_no_longer_free_memory():
    small = ask(1, gpus=1, memory=30 * GIB, limit=600)
    assert started(plan(cluster("n1 ..", small, teams=TEAMS), POLICY, NOW)) == [1]
    resuming = replace(parked(), not_before=NOW + 9000)
    assert started(plan(cluster("n1 ..", small, resuming, teams=TEAMS), POLICY, NOW)) == []


def test_the_memory_is_free_again_once_the_job_runs_or_is_gone():
    world = cluster("n1 ..", parked(), teams=TEAMS)
    planner = Planner(POLICY)
    planner.load(world)
    free = planner.ledger.hosts[1].memory
    assert free == MEMORY_PER_NODE - 40 * GIB
    (place,) = planner.plan(NOW).places
    run = replace(cluster("n1 a.").runs[0], ask=world.asks[0], parts=place.parts, state=JobState.RESUMING, pool="gpu")
    planner.started(run, now=NOW)
    assert planner.ledger.hosts[1].memory == MEMORY_PER_NODE - 41 * GIB  # it is still being copied back
    planner.changed(replace(run, state=JobState.RUNNING), now=NOW)
    assert planner.ledger.hosts[1].memory == MEMORY_PER_NODE - GIB
    planner.ended(run.job, now=NOW)
    assert planner.ledger.hosts[1].memory == MEMORY_PER_NODE


def test_saved_memory_is_charged_to_nobody():
    planner = Planner(POLICY)
    planner.load(cluster("n1 ..", parked(), teams=TEAMS))
    assert planner.account("gpu", BORROWER).used == 0


def test_without_memory_for_what_it_would_save_a_run_is_stopped():
    mine = ask(1, gpus=1, memory=GIB, team=OWNER, limit=600)
    roomy = holding(cluster("n1 a", mine, teams=TEAMS, drawn={"a": theirs()}))
    assert [s.job for s in plan(roomy, POLICY, NOW).suspends] == [letter("a")]
    tight = holding(cluster("n1 a", mine, teams=TEAMS, drawn={"a": theirs()}, free_memory=40 * GIB))
    outcome = plan(tight, POLICY, NOW)
    assert (outcome.suspends, [(s.job, s.reason) for s in outcome.stops]) == ((), [(letter("a"), EndReason.EVICT)])


@pytest.mark.parametrize(("saved", "suspended"), [(20, 2), (40, 1)])
def test_of_two_runs_on_one_node_as_many_are_suspended_as_it_has_memory_for(saved, suspended):
    mine = ask(1, gpus=2, memory=GIB, team=OWNER, limit=600)
    runs = replace(theirs(), saved_mib=saved * GIB)
    outcome = plan(holding(cluster("n1 ab", mine, teams=TEAMS, drawn={"a": runs, "b": runs})), POLICY, NOW)
    assert len(outcome.suspends) == suspended
    assert len(outcome.stops) == 2 - suspended


def test_a_run_is_stopped_where_its_saved_bytes_would_take_the_memory_that_the_other_needs():
    large = ask(1, gpus=1, memory=60 * GIB, team=OWNER, limit=600)
    outcome = plan(holding(cluster("n1 a", large, teams=TEAMS, drawn={"a": theirs()})), POLICY, NOW)
    assert (outcome.suspends, [s.job for s in outcome.stops]) == ((), [letter("a")])


def test_one_run_is_stopped_where_a_second_one_would_have_to_go_if_it_were_suspended():
    """What it saves would leave a little less memory than the job needs; the second one's GiB would do."""
    mine = ask(1, gpus=1, memory=48 * GIB, team=OWNER, limit=600)
    runs = {"a": replace(theirs(), saved_mib=15 * GIB), "b": replace(theirs(), suspendable=False)}
    world = cluster("n1 ab", mine, teams=TEAMS, drawn=runs, since=NOW - 60)
    memory = {letter("a"): 20 * GIB, letter("b"): 2 * GIB}
    held = tuple(replace(r, parts=(replace(r.parts[0], memory_mib=memory[r.job]),)) for r in world.runs)
    outcome = plan(replace(world, runs=held), POLICY, NOW)
    assert (outcome.suspends, [s.job for s in outcome.stops]) == ((), [letter("a")])


def test_nobody_else_gets_the_memory_that_a_suspension_of_this_plan_will_take():
    mine = ask(1, gpus=1, memory=GIB, team=OWNER, limit=600)
    beside = ask(2, memory=40 * GIB, team=OWNER, limit=600)
    world = holding(cluster("n1 a", mine, beside, teams=TEAMS, drawn={"a": theirs()}))
    outcome = plan(world, replace(POLICY, cpu_kept_percent=0), NOW)
    assert [s.job for s in outcome.suspends] == [letter("a")]
    assert started(outcome) == []


@pytest.mark.parametrize(
    ("limit", "preemptible", "calm", "gets_it"),
    [
        (3600, False, 0, True),  # it ends in time
        (3601, False, 0, False),
        (90_000, True, 0, True),  # it can be evicted in time
        (90_000, True, 3600, True),
        (90_000, True, 3601, False),
    ],
)
def test_the_cards_above_a_suspended_job_go_only_to_work_that_can_leave_in_time(limit, preemptible, calm, gets_it):
    newcomer = ask(1, gpus=1, team=OWNER, limit=limit, preemptible=preemptible, min_runtime_s=calm, priority=9)
    waiting = replace(parked(), not_before=NOW + 60)
    world = cluster("n1 .", newcomer, waiting, teams=TEAMS)
    assert (1 in started(plan(world, POLICY, NOW))) is gets_it


def test_the_suspended_job_itself_comes_back_for_as_long_as_it_likes():
    assert started(plan(cluster("n1 .", parked(limit=900_000), teams=TEAMS), POLICY, NOW)) == [5]


def test_whoever_would_sit_too_long_on_the_cards_gets_them_from_a_stopped_run_not_from_a_suspended_one():
    long = ask(1, gpus=1, memory=GIB, team=OWNER, limit=90_000, preemptible=False)
    outcome = plan(holding(cluster("n1 a", long, teams=TEAMS, drawn={"a": theirs()})), POLICY, NOW)
    assert (outcome.suspends, [s.job for s in outcome.stops]) == ((), [letter("a")])


def test_past_its_time_a_suspended_job_is_given_up():
    world = cluster("n1 a", parked(), teams=TEAMS, drawn={"a": ask(9, gpus=1, team=OWNER, limit=90_000)})
    assert plan(world, POLICY, NOW + 3599).stops == ()
    assert [(s.job, s.reason) for s in plan(world, POLICY, NOW + 3600).stops] == [(5, EndReason.PARKED_TOO_LONG)]


def test_a_suspended_job_evicts_nobody_for_a_while_unless_it_only_had_its_turn():
    mine = ask(1, gpus=1, memory=GIB, team=OWNER, limit=600)
    world = holding(cluster("n1 a", mine, teams=TEAMS, drawn={"a": theirs()}))
    assert plan(world, POLICY, NOW).suspends[0].calm_until == NOW + POLICY.no_evict_s
    turns = replace(POLICY, tiers=(Tier("batch", rotate=True, size_rule=SizeRule.SHORTEST),), turn_s=60, turn_factor=1)
    sibling = ask(1, gpus=1, memory=GIB, team=BORROWER, limit=600, tier="batch", preemptible=True)
    world = holding(cluster("n1 a", sibling, teams=TEAMS, drawn={"a": theirs(tier="batch", limit=9000)}))
    assert [(s.job, s.calm_until) for s in plan(world, turns, NOW).suspends] == [(letter("a"), 0)]
