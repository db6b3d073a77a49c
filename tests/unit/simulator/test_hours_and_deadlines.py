"""Hours of teams, a calendar and deadlines in virtual time: the live loop's own rules, to the second."""

import csv
import json
from dataclasses import replace

import pytest

from scheduling.core.cluster import Booking, Team, Window
from scheduling.core.policy import Policy
from scheduling.core.windows import window_from
from scheduling.simulator.options import Limits, Options
from scheduling.simulator.report.summary import figures
from scheduling.simulator.report.write import write_report
from scheduling.simulator.site import Site
from scheduling.simulator.traces.problems import Problems
from scheduling.simulator.world import World
from tests.unit.simulator.test_world import POLICY, job, records, replay, site

HOUR, DAY = 3600, 86_400
#: second 0 of a trace is midnight of a Thursday
NIGHT = window_from("20:00-06:00")


def with_hours(where: Site, **hours: Window) -> Site:
    where.teams = tuple(
        replace(team, windows=(hours[team.name],) if team.name in hours else ()) for team in where.teams
    )
    return where


# ------------------------------------------------------------------------------------------------ hours
def test_a_team_that_may_start_at_night_only_waits_for_the_evening():
    where = with_hours(site(red=2, blue=2), red=NIGHT)
    times = replay(
        where, job("early", 2 * HOUR, HOUR), job("day", 10 * HOUR, HOUR), job("other", 10 * HOUR, 5, team="blue")
    )
    assert times == {
        "early": (2 * HOUR, 3 * HOUR),
        "day": (20 * HOUR, 21 * HOUR),
        "other": (10 * HOUR, 10 * HOUR + 5),
    }  # fmt: skip


def test_weekends_come_when_they_do():
    times = replay(with_hours(site(red=2), red=window_from("sat,sun")), job("a", 0, 10))
    assert times == {"a": (2 * DAY, 2 * DAY + 10)}


def test_the_hours_of_a_team_above_bind_as_well():
    where = site(red=2)
    parent = Team(9, "lab", windows=(window_from("20:00-24:00"),))
    where.teams = (replace(where.teams[0], parent=9, windows=(window_from("22:00-06:00"),)), parent)
    assert replay(where, job("a", 0, 10)) == {"a": (22 * HOUR, 22 * HOUR + 10)}


@pytest.mark.parametrize("lasts", [10, None])
def test_hours_that_never_meet_end_the_replay_all_the_same(lasts):
    where = site(red=2, blue=2)
    parent = Team(9, "lab", windows=(window_from("08:00-10:00"),))
    where.teams = (replace(where.teams[0], parent=9, windows=(NIGHT,)), parent, where.teams[1])
    times = replay(where, job("never", 0, 10), job("server", 0, lasts, team="blue"))
    assert times["never"] == (None, None)


def test_a_server_that_never_ends_does_not_keep_a_restless_replay_alive():
    """Whoever waits behind it with a minimum runtime to pass looks again and again, but not for ever."""
    policy = replace(POLICY, min_runtime_s=60)
    times = replay(site(red=4), job("server", 0, None, gpus=4), job("next", 1, 10), policy=policy, look_s=HOUR)
    assert times == {"server": (0, None), "next": (None, None)}


def test_a_minimum_runtime_of_a_job_of_its_own_is_waited_for():
    where = site(red=2, blue=2)
    seen = records(where, job("lent", 0, 1000, gpus=4, min_runtime_s=300), job("owner", 40, 30, gpus=2, team="blue"))
    assert 300 <= seen["owner"].first_start <= 300 + Options().look_s


# ------------------------------------------------------------------------------------------------ the calendar
def test_a_booked_node_is_its_teams_and_others_run_there_only_what_is_over_by_then():
    where = site(red=2, blue=2)
    where.bookings = (Booking(1, 2, (1,), 1000, 2000),)
    times = replay(
        where,
        job("short", 0, 500, gpus=4),
        job("long", 500, 800, gpus=1),
        job("own", 600, 100, gpus=1, team="blue"),
        limits=Limits.EXACT,
    )
    assert times == {"short": (0, 500), "long": (2000, 2800), "own": (600, 700)}


def test_a_replay_begins_with_its_first_job_whatever_was_booked_before():
    where = site(red=2, blue=2)
    where.bookings = (Booking(1, 2, (1,), 0, 100), Booking(2, 2, (1,), 5_000_050, 5_000_100))
    history = World(where, POLICY, [job("a", 5_000_000, 60)], Options(sample_s=10)).run()
    assert (history.began, history.ended, len(history.samples)) == (5_000_000, 5_000_160, 16)


# ------------------------------------------------------------------------------------------------ deadlines
def test_a_deadline_that_the_forward_run_meets_is_accepted_and_goes_first():
    seen = records(
        site(red=4),
        job("running", 0, 100, gpus=4),
        job("older", 10, 100, gpus=4),
        job("due", 20, 50, gpus=4, deadline_s=160),
        job("hopeless", 30, 50, gpus=4, deadline_s=180),
        limits=Limits.EXACT,
    )
    assert [seen[name].deadline_accepted for name in ("older", "due", "hopeless")] == [None, True, False]
    assert [(seen[name].first_start, seen[name].end) for name in ("due", "older", "hopeless")] == [
        (100, 150),
        (150, 250),
        (250, 300),
    ]
    assert [seen[name].deadline_met for name in ("older", "due", "hopeless")] == [None, True, False]


def test_a_later_deadline_never_breaks_one_that_was_accepted_before():
    seen = records(
        site(red=4),
        job("running", 0, 100, gpus=4),
        job("first", 10, 50, gpus=4, deadline_s=150),
        job("greedy", 20, 50, gpus=4, deadline_s=155),
        limits=Limits.EXACT,
    )
    assert (seen["first"].deadline_accepted, seen["greedy"].deadline_accepted) == (True, False)
    assert seen["first"].end == 150


def test_a_deadline_is_weighed_with_the_limit_that_the_scheduler_knows_not_with_the_truth():
    due = job("due", 0, 50, deadline_s=100)
    assert records(site(red=4), due, limits=Limits.UNKNOWN)["due"].deadline_accepted is False
    assert records(site(red=4), due, limits=Limits.UNKNOWN)["due"].deadline_met is True
    assert records(site(red=4), replace(due, limit_s=60))["due"].deadline_accepted is True


def test_the_report_counts_deadlines_accepted_refused_and_met(tmp_path):
    jobs = [
        job("running", 0, 100, gpus=4),
        job("due", 20, 50, gpus=4, deadline_s=160),
        job("hopeless", 30, 50, gpus=4, deadline_s=180),
        job("lucky", 40, 50, deadline_s=140, limit_s=1000),
        job("free", 50, 5),
    ]
    history = World(site(gpus=5, red=5), Policy(tiers=POLICY.tiers), jobs, Options(default_limit_s=100)).run()
    # Their owners state no limits, so 100 s count for each but one, and no forward run meets any of them.
    ours = figures("berth", history, {1: "red"})
    assert (ours.deadlines, ours.deadlines_accepted, ours.deadlines_refused) == (3, 0, 3)
    assert (ours.deadlines_met, ours.accepted_met) == (2, 0)
    write_report(tmp_path, "x", [], [(ours, history)], Problems())
    (told,) = json.loads((tmp_path / "report.json").read_text())["runs"]
    assert (told["deadlines_accepted"], told["deadlines_refused"], told["deadlines_met"]) == (0, 3, 2)
    rows = {row["id"]: row for row in csv.DictReader((tmp_path / "jobs.csv").open())}
    assert [(rows[n]["deadline_s"], rows[n]["deadline"], rows[n]["deadline_met"]) for n in ("due", "free")] == [
        ("160", "refused", "1"),
        ("", "", ""),
    ]
    page = (tmp_path / "report.html").read_text()
    assert "Deadlines accepted at submit</th><td>0</td>" in page
    assert "Deadlines refused at submit</th><td>3</td>" in page
    assert "Deadlines met in all</th><td>66.7 % of 3</td>" in page
