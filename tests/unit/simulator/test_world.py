"""Virtual time: what happens to each job, to the second, on worlds small enough to follow by hand."""

from dataclasses import replace

import pytest

from scheduling.core.cluster import Gpu, Node, Pool, Quota, Team
from scheduling.core.policy import Policy, Tier
from scheduling.core.units import GPU_UNITS
from scheduling.simulator.options import Limits, Options
from scheduling.simulator.site import Site
from scheduling.simulator.traces.job import TraceJob
from scheduling.simulator.world import World

POLICY = Policy(tiers=(Tier("normal"),), grace_s=0)


def site(nodes: int = 1, gpus: int = 4, **guaranteed: int) -> Site:
    """Nodes of equal cards in one pool; `red=2` is a team with two GPUs guaranteed."""
    machines = tuple(
        Node(n, f"n{n}", "gpu", 16_000, 65_536, tuple(Gpu(id=n * 100 + g, model="H100") for g in range(gpus)))
        for n in range(1, nodes + 1)
    )
    teams = tuple(
        Team(number, name, quotas=(Quota("gpu", guaranteed=count * GPU_UNITS),))
        for number, (name, count) in enumerate(guaranteed.items(), start=1)
    )
    return Site(machines, (Pool("gpu"),), teams)


def job(name: str, submit: int, lasts: int | None, gpus: int = 1, team: str = "red", **more) -> TraceJob:
    return TraceJob(id=name, submit_s=submit, duration_s=lasts, gpus=gpus, team=team, **more)


def replay(
    where: Site, *jobs: TraceJob, policy: Policy = POLICY, **options
) -> dict[str, tuple[int | None, int | None]]:
    """First start and end of each job."""
    history = World(where, policy, jobs, Options(**options)).run()
    return {record.job.id: (record.first_start, record.end) for record in history.records}


def records(where: Site, *jobs: TraceJob, policy: Policy = POLICY, **options):
    history = World(where, policy, jobs, Options(**options)).run()
    return {record.job.id: record for record in history.records}


def test_a_story_that_comes_out_to_the_second():
    """One node of four cards. `wide` waits for all of it; `short` may pass because it ends before; `late` may not."""
    times = replay(
        site(red=4),
        job("first", 0, 100, gpus=2),
        job("wide", 10, 50, gpus=4),
        job("short", 20, 80, gpus=2),
        job("late", 30, 500, gpus=1),
        limits=Limits.EXACT,
    )
    assert times == {"first": (0, 100), "wide": (100, 150), "short": (20, 100), "late": (150, 650)}


def test_without_known_limits_nothing_passes_a_reservation():
    times = replay(
        site(red=0),
        job("first", 0, 100, gpus=2),
        job("wide", 10, 50, gpus=4),
        job("short", 20, 80, gpus=2),
        limits=Limits.UNKNOWN,
    )
    assert times["short"] == (150, 230)


def test_an_owner_takes_back_what_was_lent_and_the_borrower_begins_anew():
    seen = records(
        site(red=2, blue=2),
        job("lent", 0, 100, gpus=4, team="red"),
        job("owner", 40, 30, gpus=2, team="blue"),
    )
    lent = seen["lent"]
    assert (seen["owner"].first_start, seen["owner"].end) == (40, 70)
    assert (lent.first_start, lent.end, lent.requeues, lent.lost_s) == (0, 170, 1, 40)
    assert (lent.wait_s, lent.lost_gpu_s) == (70, 160)


def test_a_grace_delays_the_owner():
    seen = records(
        site(red=2, blue=2),
        job("lent", 0, 100, gpus=4, team="red"),
        job("owner", 40, 30, gpus=2, team="blue"),
        policy=Policy(tiers=(Tier("normal"),), grace_s=10),
    )
    assert seen["owner"].first_start == 50
    assert seen["lent"].lost_s == 50


def test_a_preemption_costs_what_the_options_say():
    seen = records(
        site(red=2, blue=2),
        job("lent", 0, 100, gpus=4, team="red"),
        job("owner", 40, 30, gpus=2, team="blue"),
        cost_s=((1, 7), (8, 30), (10**9, 60)),
    )
    assert (seen["lent"].end, seen["lent"].lost_s) == (70 + 130, 70)


def test_a_job_that_may_be_suspended_loses_nothing():
    seen = records(
        site(red=2, blue=2),
        job("lent", 0, 100, gpus=4, team="red", suspendable=True),
        job("owner", 40, 30, gpus=2, team="blue"),
        policy=replace(POLICY, keeps_work=True),
    )
    lent = seen["lent"]
    assert (lent.suspensions, lent.requeues, lent.lost_s) == (1, 0, 0)
    assert lent.end == 130


def test_a_job_is_stopped_at_its_limit():
    record = records(site(red=4), job("long", 5, 100, limit_s=60))["long"]
    assert (record.end, record.timed_out) == (65, True)


def test_a_job_that_may_not_start_before_waits_for_its_time():
    assert replay(site(red=4), job("later", 0, 10, not_before_s=500)) == {"later": (500, 510)}


def test_a_gang_larger_than_the_cluster_never_starts_and_the_replay_ends():
    assert replay(site(red=4), job("vast", 0, 10, gpus=4, replicas=2), job("small", 1, 10)) == {
        "vast": (None, None),
        "small": (1, 11),
    }


def test_work_without_end_runs_on():
    times = replay(site(red=4), job("server", 0, None, gpus=4), job("next", 1, 10))
    assert times == {"server": (0, None), "next": (None, None)}


def test_the_same_trace_gives_the_same_history():
    jobs = [
        job(str(n), n * 7 % 50 + n, 20 + n * 13 % 90, gpus=1 + n % 4, team=("red", "blue")[n % 2]) for n in range(60)
    ]
    jobs.sort(key=lambda item: item.submit_s)
    once, again = (replay(site(2, 4, red=4, blue=4), *jobs) for _ in range(2))
    assert once == again
    assert all(end is not None for _, end in once.values())


def test_the_gauge_counts_what_is_held_between_samples():
    history = World(site(red=4), POLICY, [job("a", 0, 50, gpus=2), job("b", 200, 1)], Options(sample_s=100)).run()
    assert [(sample.span_s, sample.used) for sample in history.samples] == [(100, 0.25), (100, 0.0), (1, 0.25)]
    assert history.samples[0].used_by_team == {1: pytest.approx(1.0)}


def test_suspending_takes_what_the_memory_of_its_cards_takes():
    """Two cards of 40 GiB: 49 s to save at 1,650 MiB/s, 17 s to load at 4,600, 2 s for the rest. Nothing is lost."""
    cards = tuple(Gpu(id=place, memory_mib=40_960) for place in (1, 2))
    node = Node(1, "n1", "gpu", 16_000, 400_000, cards)
    teams = tuple(Team(n, name, quotas=(Quota("gpu", guaranteed=n % 2 * 2 * GPU_UNITS),))
                  for n, name in enumerate(("red", "blue"), start=1))  # fmt: skip
    run = records(
        Site((node,), (Pool("gpu"),), teams),
        job("lent", 0, 1000, gpus=2, team="blue", suspendable=True),
        job("owner", 100, 50, gpus=2, team="red"),
    )
    assert (run["lent"].suspensions, run["lent"].requeues) == (1, 0)
    assert run["owner"].first_start == 100
    assert run["lent"].end == 1000 + 50 + 49 + 17 + 2


def test_a_trace_in_which_nothing_may_be_suspended_is_not_looked_at_every_minute_for_the_sake_of_turns():
    """The default policy lets batch work take turns; a month of waiting is still only a few plans."""
    month = (job("long", 0, 30 * 86_400, gpus=4), job("next", 10, 50, gpus=4))
    history = World(site(red=4), Policy(), month, Options(limits=Limits.EXACT)).run()
    assert [record.first_start for record in history.records] == [0, 30 * 86_400]
    assert history.plans < 10


def test_where_the_memory_of_a_card_is_not_known_work_is_stopped_instead():
    run = records(
        site(gpus=1, red=1, blue=0),
        job("lent", 0, 1000, team="blue", suspendable=True),
        job("owner", 100, 50, team="red"),
    )
    assert (run["lent"].suspensions, run["lent"].requeues) == (0, 1)


def test_guaranteed_work_that_falls_for_critical_work_is_credited_to_its_team():
    policy = replace(POLICY, tiers=(Tier("urgent", critical=True), Tier("normal")))
    where = site(gpus=1, red=1, blue=1)
    jobs = (job("old", 0, 5000, team="blue"), job("now", 1000, 50, team="red", tier="urgent"))
    world = World(where, policy, jobs, Options(limits=Limits.EXACT))
    lost = {record.job.id: record.lost_s for record in world.run().records}
    assert lost["old"] == 1000
    assert world.planner.account("gpu", where.team_id("blue")).mean < 0
