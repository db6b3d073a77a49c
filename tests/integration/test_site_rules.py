"""What an administrator says of teams and pools: hours, minimum runtimes, reference nodes, and the list of bookings."""

import re
from datetime import timedelta

import pytest
from django.core.management import CommandError

from portal.kernel import clock
from scheduling.core.cluster import Window
from scheduling.models import Allocation, ClaimedSlot, Job, PastUse, Pool
from scheduling.snapshot import load_cluster
from tenants.models import Team, TeamWindow
from tests.integration.test_commands import run
from tests.integration.test_evictions import lent, reclaim, submit
from tests.integration.test_evictions import node as four_cards
from tests.quotas import guarantee

__all__ = ["four_cards", "lent"]


@pytest.fixture
def node(four_cards):
    return four_cards


def refused(*arguments) -> str:
    with pytest.raises(CommandError) as why:
        run(*arguments)
    return str(why.value)


def told_to_the_plan(name: str):
    return next(team for team in load_cluster(clock.now()).teams if team.name == name)


# ------------------------------------------------------------------------------------------------ hours
def test_hours_reach_the_plan_and_a_job_waits_for_them(people, node, manual_clock):
    assert run("set_team", "red", "--hours", "mon-fri 20:00-06:00", "sat,sun") == (
        "red: starts mon,tue,wed,thu,fri 20:00-06:00, sat,sun 00:00-24:00; left alone for 0 s after a start"
    )
    assert told_to_the_plan("red").windows == (Window((0, 1, 2, 3, 4), 72_000, 21_600), Window((5, 6), 0, 86_400))
    job = submit(people.alice, people.red)  # it is Monday, 09:00
    node.tick()
    assert Job.objects.get(pk=job.pk).hold_code == "team_window"
    manual_clock.advance(timedelta(hours=11))
    node.report()
    node.tick()
    assert Job.objects.get(pk=job.pk).state == "placed"


def test_hours_are_taken_away_and_what_is_not_named_stays(people, node):
    run("set_team", "red", "--hours", "20:00-06:00", "--min-runtime", "10m")
    run("set_team", "red", "--min-runtime", "2h")
    assert (told_to_the_plan("red").min_runtime_s, len(told_to_the_plan("red").windows)) == (7200, 1)
    assert run("set_team", "red", "--hours", "always") == "red: starts at any time; left alone for 7200 s after a start"
    run("set_team", "red", "--min-runtime", "none")
    assert (told_to_the_plan("red").min_runtime_s, told_to_the_plan("red").windows) == (0, ())


def test_a_minimum_runtime_keeps_borrowed_work_from_its_owner(people, node, lent, manual_clock):
    run("set_team", "blue", "--min-runtime", "10m")
    submit(people.alice, people.red, gpus=2)
    assert node.tick().outcome.stopped == 0
    manual_clock.advance(timedelta(minutes=11))
    node.report()
    assert node.tick().outcome.stopped == 2


def test_hours_that_never_meet_those_of_a_team_above_are_refused_from_either_side(people, node):
    Team.objects.create(slug="lab", name="Lab", parent=people.red)
    run("set_team", "red", "--hours", "08:00-18:00")
    why = "With these hours the team 'lab' could never start anything: they never meet those of the teams above it."
    assert refused("set_team", "lab", "--hours", "20:00-06:00") == why
    assert not TeamWindow.objects.filter(team__slug="lab").exists()
    run("set_team", "lab", "--hours", "17:00-20:00")
    assert refused("set_team", "red", "--hours", "08:00-17:00") == why
    assert told_to_the_plan("red").windows == (Window(tuple(range(7)), 28_800, 64_800),)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("set_team", "green", "--hours", "always"), "There is no team 'green'. Teams: blue, red."),
        (("set_team", "red"), "Name at least one of --hours, --min-runtime."),
        (("set_team", "red", "--hours", "at night"), "--hours: 'at night' is no window such as 'mon-fri 20:00-06:00'"),
        (("set_team", "red", "--hours", "9:00-25:00"), "--hours: '9:00-25:00' has a time that no clock shows"),
        (("set_team", "red", "--min-runtime", "long"), "--min-runtime is 'long'; it must be a number with a unit"),
        (("set_team", "red", "--min-runtime", "400d"), "A minimum runtime is at most 30 days"),
        (("set_pool", "tpu", "--gpus", "8"), "There is no pool 'tpu'; pools appear with their first machine."),
        (("set_pool", "gpu"), "Name the node by --gpus, --cpus and --memory-gib, or say --no-reference."),
        (("set_pool", "gpu", "--gpus", "8", "--no-reference"), "Name the node by"),
        (("set_pool", "gpu", "--cpus", "64"), "The reference node of 'gpu' makes no sense: the reference node of a pool"),
        (("set_pool", "gpu", "--gpus", "8"), "The reference node of 'gpu' makes no sense: GPUs count in any case"),
        (("set_pool", "gpu", "--gpus", "8", "--cpus", "nan"), "--cpus is a number from 0 to 1,000,000."),
        (("set_pool", "gpu", "--gpus", "-8", "--cpus", "9"), "--gpus is a number from 0 to 1,000,000."),
        (("bookings", "--cancel", "7"), "There is no booking 7, or it is over."),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_sentence(people, node, arguments, why):
    assert refused(*arguments).startswith(why)
    assert not TeamWindow.objects.exists()
    assert Pool.objects.get(name="gpu").reference_gpus == 0


# ------------------------------------------------------------------------------------------------ pools
def test_cpu_and_memory_are_charged_by_the_reference_node_at_once(people, node, manual_clock):
    guarantee(people.red, 1)
    running = submit(people.alice, people.red, cpu_millis=32_000)
    node.start_everything()
    manual_clock.advance(timedelta(hours=1))
    assert run("set_pool", "gpu", "--gpus", "4", "--cpus", "64", "--memory-gib", "512") == (
        "gpu: reference node 4 GPUs, 64 cores, 512 GiB"
    )
    assert load_cluster(clock.now()).pools[0].reference_cpu_millis == 64_000
    # Half of the cores are two GPUs' worth, one beyond the guarantee: from now on, not for the hour before.
    assert Allocation.objects.get(job=running).charge == 2 * 42_000
    assert PastUse.objects.get(team=people.red.pk, person=0).mean == 0
    run("set_pool", "gpu", "--no-reference")
    assert Allocation.objects.get(job=running).charge == 42_000


def test_what_is_kept_by_a_claim_is_charged_anew_as_well(people, node, lent):
    reclaim(people, node, cpu_millis=32_000)
    run("set_pool", "gpu", "--gpus", "4", "--cpus", "32")
    assert sum(ClaimedSlot.objects.values_list("charge", flat=True)) == 4 * 42_000


# ------------------------------------------------------------------------------------------------ the calendar
def test_bookings_are_listed_and_cancelled(people, node):
    assert run("bookings") == "nothing is booked"
    run("book", "blue", "local", "--from", "2026-11-27T08:00", "--to", "2026-11-27T18:00", "--note", "course")
    listed = run("bookings")
    assert re.fullmatch(r"booking \d+: local for blue, 2026-11-27 08:00 to 2026-11-27 18:00 UTC \(course\)", listed)
    number = listed.split()[1].rstrip(":")
    assert run("bookings", "--cancel", number) == f"cancelled: {listed}"
    assert load_cluster(clock.now()).bookings == ()
