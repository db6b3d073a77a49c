"""Batch jobs over REST: what a program asks for, sees, and is refused."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from portal.kernel import clock
from scheduling import wiring
from scheduling.models import Job, Submission
from scheduling.nodes.driver import Phase
from scheduling.snapshot import load_cluster
from tenants.models import Member, Role, User
from tests.hand_node import node
from tests.integration.test_api import Program

__all__ = ["node"]

FORM = {"team": "red", "image": "berth/lab:latest", "command": ["true"]}


@pytest.fixture
def world(people, node):
    return people


def submit(program, **changes):
    status, answer = program("POST", "jobs", {**FORM, **changes})
    assert status == 201, answer
    return answer


def test_submit_watch_and_read_the_end(world, node):
    alice = Program(world.alice)
    made = submit(alice, name="train", gpus=1, args=["--fast"], env={"SEED": "7"})
    assert (made["state"], made["command"], made["owner"]) == ("queued", ["true", "--fast"], "alice")
    node.tick()
    node.say(Phase.STARTING)
    node.say(Phase.READY)
    (part,) = node.desired()
    assert part.spec.command == ("true", "--fast")
    assert dict(part.spec.env)["SEED"] == "7"
    assert dict(part.spec.env)["BERTH_JOB_ID"] == str(made["id"])
    seen = alice("GET", f"jobs/{made['id']}")[1]
    assert (seen["state"], seen["places"][0]["node"]) == ("running", "local")
    assert seen["places"][0]["devices"] == [{"model": "Simulated GPU", "uuid": "SIM-0", "simulated": True}]
    node.say(Phase.EXITED, exit_code=0, code="exited", message="Its program ended by itself.", log_tail="done")
    node.say(Phase.GONE)
    over = alice("GET", f"jobs/{made['id']}")[1]
    assert (over["state"], over["exit_code"], over["log_tail"]) == ("succeeded", 0, "done")
    assert [move["event"] for move in over["history"]] == ["submit", "place", "launched", "ready", "stop", "released"]


def test_everything_that_can_be_asked_reaches_the_plan_and_comes_back_in_the_answer(world, node):
    asked = {
        "gpus": 1, "gpu_memory_gib": 40, "gpu_models": ["Simulated GPU"], "pools": ["gpu"], "replicas": 2, "cpus": 0.5,
        "memory_gib": 0.5, "time_limit": "90m", "tier": "batch", "priority": 5, "within": "node",
        "preferably_within": "rack", "labels": {"!broken": []}, "preemptible": False, "min_runtime": "5m",
        "not_before": "2026-11-23T12:00:00Z", "deadline": "2026-11-24T12:00:00Z", "retries": {"exit": 2},
        "retry_exit_codes": [75], "home": False,
    }  # fmt: skip
    made = submit(Program(world.alice), **asked)
    given = {**asked, "time_limit": 5400, "min_runtime": 300, "retries": {"node_lost": 10, "exit": 2, "launch": 0}}
    moments = {"not_before", "deadline"}
    assert {name: made[name] for name in given if name not in moments} == {
        name: value for name, value in given.items() if name not in moments
    }
    assert made["deadline_accepted"] is True
    (ask,) = load_cluster(clock.now()).asks
    assert (ask.limit_s, ask.tier, ask.priority, ask.preemptible, ask.min_runtime_s) == (5400, "batch", 5, False, 300)
    assert (ask.shape.replicas, ask.shape.cpu_millis, ask.shape.memory_mib) == (2, 500, 512)
    assert ask.shape.needs[0].absent


def test_an_answer_can_be_sent_again(world, node):
    alice = Program(world.alice)
    for first in (submit(alice, script="#!/bin/sh\nexit 3\n", command=[], args=["x"]), submit(alice, labels={})):
        known = {"image", "command", "script", "args", "env", "home", "gpus", "mig", "gpu_share", "gpu_memory_gib",
                 "gpu_models", "pools", "labels", "within", "preferably_within", "replicas", "cpus", "memory_gib",
                 "time_limit", "tier", "priority", "preemptible", "min_runtime", "not_before", "deadline", "retries",
                 "retry_exit_codes", "team", "name"}  # fmt: skip
        second = submit(alice, **{name: first[name] for name in known})
        assert {name: second[name] for name in known} == {name: first[name] for name in known}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"team": "blue"}, "team", "There is no team 'blue' that you may run work in"),
        ({"team": "none"}, "team", "There is no team 'none' that you may run work in"),
        ({"command": []}, "command", "Say what to run: a command, or a script."),
        ({"script": "true"}, "script", "Give either a command or a script, not both."),
        ({"command": [""]}, "command", "The first word of a command is the program"),
        ({"command": ["a\0b"]}, "command", "Null characters are not allowed"),
        ({"command": "true"}, "command", 'Expected a list of items but got type "str"'),
        ({"image": ""}, "image", "Say in which image it runs, for instance one that is on a machine already: berth/lab"),
        ({"env": {"a b": "1"}}, "env", "'a b' cannot be the name of a variable."),
        ({"env": {"BERTH_X": "1"}}, "env", "names that begin with BERTH_ are set by Berth itself"),
        ({"gpus": 1, "mig": "1g.10gb"}, "gpus", "Ask for GPUs in one way only: gpus, mig or gpu_share."),
        ({"gpu_share": 0.5}, "gpus", "No machine here can give a part of a GPU yet; ask for whole GPUs."),
        ({"mig": "1g.10gb"}, "gpus", "No machine here can give a part of a GPU yet; ask for whole GPUs."),
        ({"mig": "half"}, "mig", "does not match"),
        ({"gpu_share": 2}, "gpu_share", "less than or equal to 1"),
        ({"gpus": True}, "gpus", "A valid integer is required."),
        ({"gpus": 3}, "gpus", "You asked for 3 GPUs on one machine; the largest has 2. Ask for 2 or fewer."),
        ({"cpus": "NaN"}, "cpus", "A valid number is required."),
        ({"cpus": 99}, "cpus", "You asked for 99 CPU cores"),
        ({"memory_gib": 9999}, "memory_gib", "GiB of memory; the largest machine"),
        ({"replicas": 0}, "replicas", "greater than or equal to 1"),
        ({"time_limit": "soon"}, "time_limit", "Write whole seconds, or a number with a unit"),
        ({"time_limit": 0}, "time_limit", "It must be from 1 seconds to 365 days."),
        ({"time_limit": True}, "time_limit", "Write whole seconds"),
        ({"tier": "urgent"}, "tier", "There is no tier 'urgent'; choose one of: production, normal, batch."),
        ({"pools": ["tpu"]}, "pools", "There is no pool 'tpu'"),
        ({"within": "row"}, "within", "There is no topology level 'row'"),
        ({"labels": {"zone": "a"}}, "labels", "Expected a list"),
        ({"labels": {"zone": [1]}}, "labels", "maps names of labels to lists"),
        ({"not_before": "9999-12-31T23:59:59Z"}, "not_before", "between the years 2000 and 2100"),
        ({"deadline": "2026-11-23T09:30:00Z"}, "deadline", "the earliest deadline is"),
        ({"retries": {"boredom": 1}}, "retries", "There is no cause 'boredom'; known: node_lost, exit, launch."),
        ({"retries": {"exit": -1}}, "retries", "greater than or equal to 0"),
        ({"retry_exit_codes": [0]}, "retry_exit_codes", "greater than or equal to 1"),
        ({"array": "9-1"}, "array", "'9-1' is no array"),
        ({"array": "0-9%0"}, "array", "'0-9%0' is no array"),
        ({"array": "0-10000"}, "array", "An array may have 10,000 tasks; this one would have 10,001."),
        ({"array": "0-9", "deadline": "2026-12-23T09:30:00Z"}, "deadline", "Only a single job can have a deadline"),
        ({"name": "a\nb"}, "name", "A name has no control characters."),
        ({"surprise": 1}, "surprise", "There is no such field; known: team, name,"),
    ],
)  # fmt: skip
def test_each_mistake_gets_one_sentence_that_names_its_field(world, node, changes, field, words):
    status, problem = Program(world.alice)("POST", "jobs", {**FORM, **changes})
    assert status == 422
    assert problem["field"] == field
    assert words in problem["detail"]
    assert not Job.objects.exists()


@pytest.mark.parametrize("body", ["{", "[]", "null", b"\xff", {"team": ["red"]}, "[" * 100_000, {}])
def test_nonsense_is_refused_and_never_a_500(world, node, body):
    status, problem = Program(world.alice)("POST", "jobs", body)
    assert status in (400, 422)
    assert problem["detail"]


# ------------------------------------------------------------------------------------------------------- who may what
@pytest.fixture
def viewer(world):
    erin = User.objects.create_user(username="erin")
    Member.objects.create(team=world.red, user=erin, role=Role.VIEWER)
    return erin


def test_the_team_sees_its_jobs_and_strangers_find_nothing(world, node, viewer):
    made = submit(Program(world.bob))
    path = f"jobs/{made['id']}"
    for person in (world.alice, world.bob, world.dana, viewer):
        program = Program(person)
        assert program("GET", path)[0] == 200
        assert program("GET", f"{path}/why")[0] == 200
        assert [row["id"] for row in program("GET", "jobs")[1]["results"]] == [made["id"]]
    charlie = Program(world.charlie)
    for method, tail in (("GET", ""), ("GET", "/why"), ("POST", ":cancel")):
        for job in (made["id"], made["id"] + 1, 2**70):
            status, problem = charlie(method, f"jobs/{job}{tail}")
            assert (status, problem["code"]) == (404, "no-such-job")
    assert charlie("GET", "jobs")[1] == {"results": [], "next": None}
    assert charlie("GET", "jobs?team=red")[0] == charlie("GET", "jobs?team=nobody")[0] == 404
    assert Program()("GET", "jobs")[0] == 401


def test_members_submit_and_viewers_only_look(world, node, viewer):
    assert Program(viewer)("POST", "jobs", FORM)[1]["code"] == "no-team-to-work-in"
    assert Program(world.dana)("POST", "jobs", FORM)[1]["code"] == "no-team-to-work-in"


def test_owner_and_who_runs_the_team_cancel_and_nobody_else(world, node, viewer):
    frank = User.objects.create_user(username="frank")
    Member.objects.create(team=world.red, user=frank, role=Role.MEMBER)
    for person, status in ((viewer, 403), (frank, 403), (world.alice, 200), (world.bob, 200), (world.dana, 200)):
        made = submit(Program(world.bob))
        answered, body = Program(person)("POST", f"jobs/{made['id']}:cancel")
        assert answered == status
        state = "cancelled" if status == 200 else "queued"
        assert Job.objects.get(pk=made["id"]).state == state
        if status == 200:
            assert (body["state"], body["reason"]) == ("cancelled", f"{person.username} cancelled it.")
        else:
            assert body["code"] == "not-yours-to-cancel"


def test_who_has_left_the_team_still_sees_and_cancels_his_own(world, node):
    made = submit(Program(world.bob))
    Member.objects.filter(user=world.bob).delete()
    assert Program(world.bob)("GET", f"jobs/{made['id']}")[0] == 200
    assert Program(world.bob)("POST", f"jobs/{made['id']}:cancel")[1]["state"] == "cancelled"


def test_workspaces_are_no_batch_jobs(world, node):
    job = Job.objects.create(
        team=world.red, owner=world.alice, name="lab", image="x", limit=timedelta(hours=1), submitted_at=clock.now(),
        since_at=clock.now(),
    )  # fmt: skip
    alice = Program(world.alice)
    assert alice("GET", f"jobs/{job.pk}")[0] == 404
    assert alice("POST", f"jobs/{job.pk}:cancel")[0] == 404
    assert alice("GET", "jobs")[1]["results"] == []


def test_where_processes_are_not_kept_apart_only_the_first_person_runs_jobs(world, node):
    wiring.use(replace(wiring.wired(), only_person=lambda: "alice"))
    assert Program(world.bob)("POST", "jobs", FORM)[1]["code"] == "only-one-person"
    submit(Program(world.alice))


# ------------------------------------------------------------------------------------------------------- lists
def test_a_list_is_filtered_and_turned_page_by_page(world, node):
    alice, bob, charlie = Program(world.alice), Program(world.bob), Program(world.charlie)
    mine = [submit(alice)["id"] for _ in range(3)]
    his = [submit(bob)["id"] for _ in range(2)]
    submit(charlie, team="blue")
    alice("POST", f"jobs/{mine[0]}:cancel")

    def ids(query):
        status, answer = alice("GET", f"jobs?{query}")
        assert status == 200, answer
        return [row["id"] for row in answer["results"]]

    assert ids("") == ids("team=red") == [*his[::-1], *mine[::-1]]
    assert ids("owner=bob") == his[::-1]
    assert ids("state=cancelled") == [mine[0]]
    assert ids("state=queued,cancelled&owner=alice") == mine[::-1]
    pages, cursor = [], ""
    while cursor is not None:
        answer = alice("GET", f"jobs?limit=2{cursor and f'&cursor={cursor}'}")[1]
        pages.append([row["id"] for row in answer["results"]])
        cursor = answer["next"]
    assert pages == [his[::-1], mine[:0:-1], mine[:1]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=tired", "state"),
        ("limit=0", "limit"),
        ("limit=1000", "limit"),
        ("cursor=x", "cursor"),
        ("team=%00", "team"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(world, node, query, field):
    status, problem = Program(world.alice)("GET", f"jobs?{query}")
    assert status in (404, 422)
    assert problem["field"] == field


def test_a_list_takes_as_many_queries_for_many_jobs_as_for_few(world, node):
    alice = Program(world.alice)

    def queries():
        with CaptureQueriesContext(connection) as caught:
            alice("GET", "jobs")
        return len(caught)

    submit(alice)
    queries()
    few = queries()
    for _ in range(12):
        submit(alice)
    node.tick()
    assert queries() == few


# ------------------------------------------------------------------------------------------------------- once
def test_a_key_makes_one_job_however_often_it_comes(world, node):
    alice = Program(world.alice)
    answers = [alice("POST", "jobs", FORM, **{"Idempotency-Key": "k"}) for _ in range(3)]
    assert {(status, body["id"]) for status, body in answers} == {(201, answers[0][1]["id"])}
    assert Program(world.bob)("POST", "jobs", FORM, **{"Idempotency-Key": "k"})[1]["id"] != answers[0][1]["id"]
    assert Job.objects.count() == 2


def test_a_key_that_comes_with_another_request_is_refused(world, node):
    alice = Program(world.alice)
    alice("POST", "jobs", FORM, **{"Idempotency-Key": "k"})
    status, problem = alice("POST", "jobs", {**FORM, "gpus": 1}, **{"Idempotency-Key": "k"})
    assert (status, problem["code"]) == (409, "key-used-otherwise")


def test_keys_are_forgotten_after_a_week(world, node, manual_clock):
    alice = Program(world.alice)
    first = alice("POST", "jobs", FORM, **{"Idempotency-Key": "k"})[1]["id"]
    node.advance(manual_clock, days=8)
    alice("POST", "jobs", FORM, **{"Idempotency-Key": "other"})
    assert alice("POST", "jobs", FORM, **{"Idempotency-Key": "k"})[1]["id"] != first
    assert Submission.objects.count() == 2


# ------------------------------------------------------------------------------------------------------- why
def test_why_tells_reason_place_estimate_and_what_would_start_it_now(world, node):
    alice = Program(world.alice)
    submit(alice, gpus=1, time_limit="1h")
    node.start_everything()
    waiting = submit(alice, gpus=2, time_limit="1h")
    node.tick()
    told = alice("GET", f"jobs/{waiting['id']}/why")[1]
    assert told["waits"] is True
    assert told["reason"] == "It needs 2 GPUs on one node; the most that is free for it on one is 1."
    assert told["queue_place"] == 1
    assert "tier normal" in told["terms"]
    assert told["estimate"] == {
        "likely_at": "2026-11-23T10:00:00Z",
        "late_at": "2026-11-23T10:00:00Z",
        "learned": False,
    }
    assert told["kept_from"] == "2026-11-23T10:00:00Z"
    assert {"what": "gpus", "value": "1"} in told["changes"]
    alice("POST", f"jobs/{waiting['id']}:cancel")
    over = alice("GET", f"jobs/{waiting['id']}/why")[1]
    assert (over["waits"], over["reason"], over["changes"]) == (False, "alice cancelled it.", [])
