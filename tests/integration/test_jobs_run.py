"""What becomes of a batch job once it runs: exit codes, retries by cause, gangs, time limits. The node is moved by hand."""

import pytest

from scheduling.models import Job
from scheduling.nodes.driver import Observation, Phase
from scheduling.nodes.reconcile import LEASE_OVER
from tests.hand_node import node
from tests.integration.test_api import Program
from tests.integration.test_jobs_api import submit, world

__all__ = ["node", "world"]


@pytest.fixture
def alice(world):
    return Program(world.alice)


def run(node):
    node.tick()
    node.say(Phase.STARTING)
    node.say(Phase.READY)


def end(node, **facts):
    node.say(Phase.EXITED, **{"exit_code": 0, "code": "exited", **facts})
    node.say(Phase.GONE)


def job(made):
    return Job.objects.get(pk=made["id"])


@pytest.mark.parametrize(
    ("facts", "state", "reason"),
    [
        ({}, "succeeded", "succeeded"),
        ({"exit_code": 3, "message": "It ended with 3."}, "failed", "exited"),
        ({"exit_code": 137, "code": "oom-killed", "message": "Too much memory."}, "failed", "exited"),
    ],
)
def test_the_exit_code_decides(alice, node, facts, state, reason):
    made = submit(alice)
    run(node)
    end(node, **facts)
    seen = alice("GET", f"jobs/{made['id']}")[1]
    assert (seen["state"], seen["exit_code"]) == (state, facts.get("exit_code", 0))
    assert job(made).end_reason == reason
    assert seen["reason"] == facts.get("message", "It ended.")


def test_a_failed_exit_is_tried_again_as_often_as_was_asked(alice, node):
    made = submit(alice, retries={"exit": 2})
    for _ in range(2):
        run(node)
        end(node, exit_code=1, message="It ended with 1.")
        assert job(made).state == "queued"
    run(node)
    end(node, exit_code=1, message="It ended with 1.")
    seen = alice("GET", f"jobs/{made['id']}")[1]
    assert (seen["state"], seen["attempt"], seen["retried"]) == ("failed", 3, {"exit": 2})
    assert [move["message"] for move in seen["history"] if move["event"] == "stop"] == ["It ended with 1."] * 3


def test_only_the_exit_codes_that_were_named_are_tried_again(alice, node):
    made = submit(alice, retries={"exit": 5}, retry_exit_codes=[75])
    run(node)
    end(node, exit_code=75)
    assert job(made).state == "queued"
    run(node)
    end(node, exit_code=1)
    assert job(made).state == "failed"


def test_success_is_never_tried_again(alice, node):
    made = submit(alice, retries={"exit": 5})
    run(node)
    end(node)
    assert job(made).state == "succeeded"


def test_a_program_that_was_taken_for_running_and_is_refused_after_all_has_failed(alice, node):
    made = submit(alice)
    run(node)
    node.say(Phase.REFUSED, code="command-missing", message="There is no such program.")
    node.say(Phase.GONE)
    assert (job(made).state, job(made).end_message) == ("failed", "There is no such program.")


def test_a_refused_launch_is_tried_again_only_where_that_was_asked(alice, node):
    once, twice = submit(alice), submit(alice, retries={"launch": 1})
    for _ in range(2):
        node.tick()
        node.say(Phase.REFUSED, code="image-missing", message="There is no image x.")
        node.say(Phase.GONE)
    assert (job(once).state, job(once).attempt) == ("failed", 1)
    assert (job(twice).state, job(twice).attempt) == ("failed", 2)


@pytest.mark.parametrize(
    "seen",
    [
        (Phase.EXITED, {"exit_code": 255, "code": "machine-restarted"}),
        (Phase.EXITED, {"exit_code": 0, "code": "engine-restarted"}),
        (Phase.GONE, {"code": "vanished"}),
        (Phase.GONE, {"code": LEASE_OVER}),
    ],
)
def test_what_its_machine_ended_runs_again_and_what_nobody_allowed_does_not(alice, node, seen):
    phase, facts = seen
    again, never = submit(alice), submit(alice, retries={"node_lost": 0})
    run(node)
    node.say(phase, **facts)
    node.say(Phase.GONE)
    assert (job(again).state, job(again).retried) == ("queued", {"node_lost": 1})
    assert (job(never).state, job(never).end_reason) == ("failed", "node_lost")


def test_who_cancels_a_job_that_would_be_tried_again_is_obeyed(alice, node):
    made = submit(alice, retries={"exit": 5})
    run(node)
    node.say(Phase.EXITED, exit_code=1, code="exited")
    assert alice("POST", f"jobs/{made['id']}:cancel")[1]["state"] == "stopping"
    node.say(Phase.GONE)
    assert job(made).state == "cancelled"


def test_a_time_limit_ends_it_with_grace(alice, node, manual_clock):
    made = submit(alice, time_limit="10m", retries={"exit": 5})
    run(node)
    node.advance(manual_clock, minutes=11)
    node.tick()
    (part,) = node.desired()
    assert (part.run, part.spec.grace_s) == (False, 10)
    node.say(Phase.GONE)
    seen = alice("GET", f"jobs/{made['id']}")[1]
    assert (seen["state"], seen["reason"]) == ("timed_out", "It reached its time limit.")


# ------------------------------------------------------------------------------------------------------- gangs
def gang(alice, node):
    made = submit(alice, replicas=2, gpus=1, cpus=0.5, memory_gib=0.5)
    run(node)
    first, second = (part.spec.allocation for part in node.desired())
    return made, first, second


def test_replicas_know_which_they_are_and_where_the_others_are(alice, node):
    gang(alice, node)
    specs = [part.spec for part in node.desired()]
    assert [(spec.replica, spec.peers) for spec in specs] == [(0, ("local", "local")), (1, ("local", "local"))]
    assert [dict(spec.env)["BERTH_REPLICA"] for spec in specs] == ["0", "1"]
    assert {dict(spec.env)["BERTH_REPLICAS"] for spec in specs} == {"2"}


def test_a_gang_succeeds_with_its_last_replica(alice, node):
    made, first, second = gang(alice, node)
    node.report(Observation(first, Phase.EXITED, exit_code=0, code="exited"), Observation(second, Phase.READY))
    assert job(made).state == "running"
    node.report(Observation(first, Phase.EXITED, exit_code=0), Observation(second, Phase.EXITED, exit_code=0))
    assert (job(made).state, job(made).end_reason) == ("stopping", "succeeded")
    node.say(Phase.GONE)
    assert job(made).state == "succeeded"


def test_the_first_replica_that_fails_stops_the_others(alice, node):
    made, first, second = gang(alice, node)
    node.report(Observation(first, Phase.EXITED, exit_code=0, code="exited"), Observation(second, Phase.READY))
    node.report(Observation(second, Phase.EXITED, exit_code=9, code="exited"))
    assert not any(part.run for part in node.desired())
    node.say(Phase.GONE)
    assert (job(made).state, job(made).exit_code) == ("failed", 9)


def test_a_replica_that_is_done_before_the_others_have_begun_holds_nobody_up(alice, node):
    made = submit(alice, replicas=2, gpus=1, cpus=0.5, memory_gib=0.5)
    node.tick()
    first, second = (part.spec.allocation for part in node.desired())
    node.report(Observation(first, Phase.EXITED, exit_code=0, code="exited"))
    assert job(made).state == "placed"
    node.report(Observation(second, Phase.STARTING))
    assert job(made).state == "starting"
    node.report(Observation(second, Phase.READY))
    assert job(made).state == "running"


# ------------------------------------------------------------------------------------------------------- scripts
def test_a_script_runs_with_its_own_interpreter_or_with_sh(alice, node):
    submit(alice, command=[], script="#!/usr/bin/env python3\nprint(1)\n", args=["a b"])
    submit(alice, command=[], script="echo $1", args=["x"])
    node.tick()
    own, plain = (part.spec.command for part in node.desired())
    assert own[:2] == plain[:2] == ("/bin/sh", "-c")
    assert own[3:] == ("script", "#!/usr/bin/env python3\nprint(1)\n", "a b")
    assert plain[2:] == ("echo $1", "script", "x")
