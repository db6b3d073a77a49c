"""The administrator's commands: quotas with one clear refusal, and a snapshot that is planned again to the same plan."""

import re
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from portal import compose
from portal.kernel import clock
from portal.kernel.env import BadSetting
from scheduling import wiring
from scheduling.core.dump import load
from scheduling.core.plan import plan
from scheduling.core.policy import Tier
from scheduling.management.commands.replan import told
from scheduling.models import Job
from scheduling.selectors import job_details
from scheduling.shaping import seconds
from scheduling.snapshot import load_cluster
from tenants.models import Quota, Team
from tests.integration.test_evictions import lent, submit
from tests.integration.test_evictions import node as four_cards

__all__ = ["four_cards", "lent"]


@pytest.fixture
def node(four_cards):
    return four_cards


def run(*arguments) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue().strip()


def refused(*arguments) -> str:
    with pytest.raises(CommandError) as why:
        run("set_quota", *arguments)
    return str(why.value)


def test_a_quota_is_set_in_gpus_and_percent_and_what_is_not_named_stays(people, node):
    assert run(
        "set_quota", "red", "gpu", "--guaranteed", "1.5", "--percent", "25", "--borrow", "2", "--weight", "3"
    ) == ("red in gpu (4 GPUs): guaranteed 1.5 + 25 %, borrows 2, lends no limit, one member no limit, weight 3")
    run("set_quota", "red", "gpu", "--borrow", "none", "--lend", "0", "--user", "1")
    (quota,) = Quota.objects.all()
    assert (quota.guaranteed, quota.percent_milli, quota.weight) == (63_000, 25_000, 3)
    assert (quota.borrow_limit, quota.lend_limit, quota.user_limit) == (None, 0, 42_000)
    (told_to_the_plan,) = next(t for t in load_cluster(clock.now()).teams if t.name == "red").quotas
    assert (told_to_the_plan.guaranteed, told_to_the_plan.lend_limit) == (63_000, 0)


def test_guarantees_beyond_the_pool_are_refused(people, node):
    run("set_quota", "blue", "gpu", "--guaranteed", "3")
    assert refused("red", "gpu", "--percent", "50") == (
        "The guarantees in 'gpu' would be 5 GPUs together, and it has 4; give 1 less."
    )
    assert not Quota.objects.filter(team=people.red).exists()


def test_guarantees_beyond_the_parent_are_refused_from_either_side(people, node):
    lab = Team.objects.create(slug="lab", name="Lab", parent=people.red)
    run("set_quota", "red", "gpu", "--guaranteed", "2")
    assert refused("lab", "gpu", "--guaranteed", "3") == (
        "The teams below 'red' would have 3 GPUs guaranteed in 'gpu', and 'red' itself has 2; give 1 less, or raise that "
        "of 'red' first."
    )
    run("set_quota", lab.slug, "gpu", "--guaranteed", "2")
    assert "'red' itself has 1" in refused("red", "gpu", "--guaranteed", "1")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("green", "gpu", "--weight", "1"), "There is no team 'green'. Teams: blue, red."),
        (("red", "tpu", "--weight", "1"), "There is no pool 'tpu'; pools appear with their first machine."),
        (("red", "gpu"), "Name at least one of"),
        (("red", "gpu", "--guaranteed", "much"), "--guaranteed is a number from 0 on with at most three decimals"),
        (("red", "gpu", "--guaranteed", "-1"), "--guaranteed is a number from 0 on"),
        (("red", "gpu", "--guaranteed", "0.00001"), "--guaranteed is a number from 0 on"),
        (("red", "gpu", "--guaranteed", "none"), "--guaranteed is a number from 0 on"),
        (("red", "gpu", "--borrow", "inf"), "--borrow is a number from 0 on"),
        (("red", "gpu", "--percent", "101"), "--percent is at most 100."),
        (("red", "gpu", "--weight", "-1"), "--weight is 0 or more."),
    ],
)
def test_a_quota_that_makes_no_sense_is_refused_in_one_sentence(people, node, arguments, why):
    assert refused(*arguments).startswith(why)
    assert not Quota.objects.exists()


def test_a_circle_of_teams_is_refused_instead_of_walked_for_ever(people, node):
    Team.objects.filter(pk=people.red.pk).update(parent=people.blue)
    Team.objects.filter(pk=people.blue.pk).update(parent=people.red)
    assert "lies below itself" in refused("red", "gpu", "--guaranteed", "1")


def test_labels_and_the_place_of_a_node_reach_the_plan(people, node):
    assert run("label_node", "local", "zone=a", "fast=", "--path", "b1/r2") == "local: fast= zone=a, b1/r2"
    assert run("label_node", "local", "fast-") == "local: zone=a, b1/r2"
    (told_to_the_plan,) = load_cluster(clock.now()).nodes
    assert (told_to_the_plan.labels, told_to_the_plan.path) == ((("zone", "a"),), ("b1", "r2"))
    for arguments, why in (
        (("other", "a=b"), "There is no node 'other'. Nodes: local."),
        (("local", "zone"), "'zone' is neither KEY=VALUE nor KEY-."),
        (("local", "--path", "a/b/c"), "The path has 3 levels; the policy names block, rack."),
    ):
        with pytest.raises(CommandError, match=re.escape(why)):
            run("label_node", *arguments)


def test_a_booking_keeps_others_away_and_two_never_overlap(people, node):
    friday = ("--from", "2026-11-27T08:00", "--to", "2026-11-27T18:00")
    run("book", "blue", "local", *friday)
    (booked,) = load_cluster(clock.now()).bookings
    assert (booked.team, booked.ends - booked.starts) == (people.blue.pk, 10 * 3600)
    for arguments, why in (
        (
            ("red", "local", *friday),
            "'local' is booked for blue from 2026-11-27 08:00 to 2026-11-27 18:00 UTC already.",
        ),
        (("red", "other", *friday), "There is no node 'other'."),
        (("green", "local", *friday), "There is no team 'green'. Teams: blue, red."),
        (
            ("red", "local", "--from", "2026-11-28", "--to", "2026-11-27"),
            "--to must lie after --from and in the future.",
        ),
        (("red", "local", "--from", "tomorrow", "--to", "2026-11-27"), "'tomorrow' is not a time such as"),
    ):
        with pytest.raises(CommandError, match=re.escape(why)):
            run("book", *arguments)
    assert len(load_cluster(clock.now()).bookings) == 1


def test_a_booking_says_whose_work_may_still_run_there_and_that_it_evicts_nobody(people, node):
    first = submit(people.alice, people.red, gpus=1)
    submit(people.charlie, people.blue, gpus=1)
    node.start_everything()
    times = ("--from", "2026-11-23T12:00", "--to", "2026-11-23T14:00")
    lines = run("book", "blue", "local", *times).splitlines()
    assert lines[1] == f"overlap  job {first.pk} of red on local may run until 2026-11-23 19:00 UTC"
    assert lines[2].startswith("A booking evicts nobody: what runs goes on, at most until its time limit")
    assert len(lines) == 3
    later = ("--from", "2026-11-24T12:00", "--to", "2026-11-24T14:00")
    assert len(run("book", "blue", "local", *later).splitlines()) == 1


def test_who_waits_for_a_booked_machine_is_told_whose_it_is_and_until_when(people, node):
    run("book", "blue", "local", "--from", "2026-11-23T12:00", "--to", "2026-11-23T14:00")
    waits = submit(people.alice, people.red, gpus=1)
    node.tick()
    waits.refresh_from_db()
    assert waits.hold_code == "booked"
    assert run("why", str(waits.pk)).splitlines()[1] == (
        "why      There is room for it on local now, but that is booked for blue from 2026-11-23 12:00 UTC to 2026-11-23 "
        "14:00 UTC, and its time limit reaches into that."
    )
    assert "booked for another team from" in job_details([waits])[waits.pk].why_waiting
    assert run("why", str(waits.pk)).splitlines()[-1] == "or now   with limit_s 10800"


def test_promises_are_kept_or_not_and_the_share_is_told(people, node, lent):
    assert run("promises") == "all      0 of 0 kept; 0 open"
    waits = submit(people.bob, people.red, gpus=2)
    first = Job.objects.get(state="queued")
    assert run("promises", "--make").splitlines()[0] == "made     1"
    first.refresh_from_db()
    assert first.start_by_at is not None
    assert run("promises", "--make").splitlines() == [
        "made     0", "normal   0 of 0 kept; 1 open", "all      0 of 0 kept; 1 open",
    ]  # fmt: skip
    Job.objects.filter(pk=waits.pk).update(start_by_at=clock.now() - timedelta(minutes=2))
    assert run("promises").splitlines()[-1] == "all      0 of 1 kept, 0.0 %; 0 open"
    assert f"promise  to start by {clock.now() - timedelta(minutes=2):%Y-%m-%d %H:%M} UTC" in run("why", str(waits.pk))


def test_a_snapshot_is_planned_again_to_the_plan_that_the_live_loop_makes(people, node, lent, tmp_path):
    submit(people.alice, people.red, gpus=2)
    submit(people.charlie, people.blue, gpus=3)
    file = tmp_path / "moment.json"
    assert run("snapshot", "--out", str(file)) == f"{file}: 1 nodes, 4 runs, 2 waiting, 0 claims"
    cluster, policy, now = load(file.read_text())
    assert (policy, now) == (wiring.wired().policy, seconds(clock.now()))
    assert cluster == load_cluster(clock.now())
    decided = plan(load_cluster(clock.now()), wiring.wired().policy, now)
    assert plan(cluster, policy, now) == decided

    lines = run("replan", str(file)).splitlines()
    assert lines == ["plan of 2026-11-23T09:00:00+00:00", *told(cluster, decided)]
    kinds = [line.split()[0] for line in lines[1:]]
    assert {"stop", "claim", "reserve", "hold"} <= set(kinds)

    node.tick()
    evicted = Job.objects.filter(state="stopping").values_list("pk", flat=True)
    assert sorted(evicted) == sorted(stop.job for stop in decided.stops)
    assert run("snapshot", "--out", str(file)).endswith("1 claims")
    cluster, policy, now = load(file.read_text())
    assert [claim.job for claim in cluster.claims] == [claim.job for claim in decided.claims]
    assert plan(cluster, policy, now) == plan(load_cluster(clock.now()), policy, now)


def test_why_a_job_waits_and_what_would_start_it(people, node):
    first = submit(people.alice, people.red, gpus=3)
    node.start_everything()
    waits = submit(people.bob, people.red, gpus=2)
    node.tick()
    assert run("why", str(waits.pk)).splitlines() == [
        f"job {waits.pk} 'work' of bob in red: queued",
        "why      It needs 2 GPUs on one node; the most that is free for it on one is 1.",
        "place    1",
        "terms    beyond its team's guarantee, tier normal, team shares 210000, person's share 84000, priority 0",
        "kept     a place from 2026-11-23 19:00 UTC at the latest",
        "start    likely 2026-11-23 19:00 UTC, late 2026-11-23 19:00 UTC (with every job at its time limit)",
        "or now   with gpus 1",
    ]
    assert run("why", str(first.pk)).endswith("running")
    with pytest.raises(CommandError, match=r"There is no job 4242\."):
        run("why", "4242")


def test_a_file_that_is_no_snapshot_is_refused(tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    for name in ("bad.json", "absent.json"):
        with pytest.raises(CommandError):
            run("replan", str(tmp_path / name))


def test_the_policy_comes_from_a_file_and_what_drivers_cannot_do_stays_off(settings, tmp_path):
    settings.BERTH_POLICY_FILE = str(tmp_path / "policy.yaml")
    (tmp_path / "policy.yaml").write_text(
        "tiers: [{name: urgent, critical: true}, {name: normal}]\ngrace_s: 5\nhalf_life_s: 3600\nsuspend: true\n"
    )
    policy = compose.live_policy()
    assert policy.tiers == (Tier("urgent", critical=True), Tier("normal"))
    assert (policy.grace_s, policy.half_life_s, policy.place_timeout_s) == (5, 3600, 600)
    assert (policy.suspend, policy.recut) == (False, False)


def test_a_bad_policy_file_stops_the_start_with_one_sentence(settings, tmp_path):
    settings.BERTH_POLICY_FILE = str(tmp_path / "policy.yaml")
    with pytest.raises(BadSetting, match="BERTH_POLICY_FILE: .*cannot be read"):
        compose.live_policy()
    (tmp_path / "policy.yaml").write_text("grace: 5\n")
    with pytest.raises(BadSetting, match=r"BERTH_POLICY_FILE: .*grace: is not a key here"):
        compose.live_policy()
