"""An array is one row until its tasks get places; to the scheduler it is so many identical jobs."""

from django.db import connection
from django.test.utils import CaptureQueriesContext

from portal.kernel import clock
from scheduling import services
from scheduling.core.plan import plan
from scheduling.models import Claim, Job, JobTransition
from scheduling.nodes.driver import Phase
from scheduling.records.arrays import with_rows
from scheduling.records.ranges import each
from scheduling.snapshot import load_cluster, seconds
from scheduling.wiring import wired
from tests.hand_node import node
from tests.integration.test_api import Program
from tests.integration.test_jobs_api import submit, world
from tests.integration.test_jobs_run import alice, end, run
from tests.quotas import guarantee

__all__ = ["alice", "node", "world"]


def array(alice, spec, **asked):
    return submit(alice, **{"array": spec, "gpus": 1, "cpus": 0.1, "memory_gib": 0.1, **asked})


def tasks(made):
    return list(Job.objects.filter(array=made["id"]).order_by("array_index"))


def seen(alice, made):
    return alice("GET", f"jobs/{made['id']}")[1]


def test_an_array_is_one_row_until_its_tasks_get_places(alice, node):
    made = array(alice, "0-9")
    assert (made["state"], made["array"], made["tasks"]) == ("queued", "0-9", {"queued": 10})
    assert Job.objects.count() == 1
    assert len(load_cluster(clock.now()).asks) == 10
    node.tick()
    assert [(task.array_index, task.state, task.name) for task in tasks(made)] == [
        (0, "placed", "true[0]"),
        (1, "placed", "true[1]"),
    ]
    assert len(load_cluster(clock.now()).asks) == 8
    now = seen(alice, made)
    assert (now["state"], now["tasks"]) == ("running", {"placed": 2, "queued": 8})
    assert now["reason"] == "It needs 1 GPU on one node; the most that is free for it on one is 0."
    assert [row["array_index"] for row in alice("GET", f"jobs?array={made['id']}")[1]["results"]] == [1, 0]
    assert [row["id"] for row in alice("GET", "jobs")[1]["results"]] == [made["id"]]


def test_tasks_know_their_array_and_their_index(alice, node):
    made = array(alice, "7,9", env={"A": "1"}, args=["x"])
    node.tick()
    environments = [dict(part.spec.env) for part in node.desired()]
    assert [(e["BERTH_ARRAY_ID"], e["BERTH_ARRAY_INDEX"], e["A"]) for e in environments] == [
        (str(made["id"]), "7", "1"),
        (str(made["id"]), "9", "1"),
    ]
    assert [int(e["BERTH_JOB_ID"]) for e in environments] == [task.pk for task in tasks(made)]
    assert [task.command for task in tasks(made)] == [["true", "x"]] * 2


def test_an_array_ends_with_its_last_task(alice, node):
    made = array(alice, "1-5")
    for _ in range(3):
        run(node)
        end(node)
    assert seen(alice, made)["tasks"] == {"succeeded": 5}
    node.tick()
    over = seen(alice, made)
    assert (over["state"], over["reason"]) == ("succeeded", "All 5 tasks succeeded.")
    assert JobTransition.objects.filter(job=made["id"]).count() == 2


def test_an_array_some_of_whose_tasks_failed_has_failed_and_says_how_many(alice, node):
    made = array(alice, "1-4")
    run(node)
    end(node, exit_code=1)
    run(node)
    end(node)
    node.tick()
    over = seen(alice, made)
    assert (over["state"], over["reason"]) == ("failed", "Of 4 tasks 2 failed.")
    assert over["tasks"] == {"failed": 2, "succeeded": 2}


def test_no_more_tasks_run_at_a_time_than_was_asked(alice, node):
    made = array(alice, "0-9%1")
    for done in range(3):
        run(node)
        node.tick()
        assert [task.state for task in tasks(made)] == ["succeeded"] * done + ["running"]
        assert seen(alice, made)["reason"] == "It runs 1 of its tasks at a time, as it asked for."
        end(node)


def test_a_task_that_is_tried_again_counts_among_those_that_run(alice, node):
    made = array(alice, "0-9%1", retries={"exit": 1})
    run(node)
    end(node, exit_code=1)
    node.tick()
    assert [(task.array_index, task.attempt) for task in tasks(made)] == [(0, 2)]


def test_cancelling_an_array_ends_what_runs_and_takes_the_rest_off_the_queue(alice, node):
    made = array(alice, "0-9")
    run(node)
    assert alice("POST", f"jobs/{made['id']}:cancel")[1]["state"] == "cancelled"
    assert [task.state for task in tasks(made)] == ["stopping"] * 2
    node.say(Phase.GONE)
    node.tick()
    assert seen(alice, made)["tasks"] == {"cancelled": 10}
    assert [task.end_message for task in tasks(made)] == ["alice cancelled it."] * 2
    assert not load_cluster(clock.now()).asks


def test_a_task_can_be_cancelled_by_itself(alice, node):
    made = array(alice, "0-3")
    run(node)
    alice("POST", f"jobs/{tasks(made)[0].pk}:cancel")
    node.say(Phase.GONE)
    assert seen(alice, made)["tasks"]["cancelled"] == 1
    assert seen(alice, made)["state"] == "running"


def test_an_array_that_was_cancelled_after_the_plan_was_made_gets_no_rows(alice, node):
    made = array(alice, "0-9")
    decided = plan(load_cluster(clock.now()), wired().policy, seconds(clock.now()))
    assert len(decided.places) == 2
    services.cancel_job(job=Job.objects.get(pk=made["id"]), now=clock.now())
    left, _ = with_rows(decided, None, now=clock.now())
    assert left.places == ()
    assert not tasks(made)


def test_others_take_their_turns_between_the_tasks_by_the_same_order(alice, node, world):
    made = array(alice, "0-5")
    other = submit(Program(world.charlie), team="blue", gpus=1)
    node.tick()
    assert Job.objects.get(pk=other["id"]).state == "placed", "blue holds nothing, so red's second task comes after it"
    assert len(tasks(made)) == 1


def test_a_task_may_evict_a_borrower_and_is_a_row_from_then_on(alice, node, world):
    guarantee(world.red, 1)
    guarantee(world.blue, 0)
    borrowed = submit(Program(world.charlie), team="blue", gpus=2)
    node.start_everything()
    made = array(alice, "0-2")
    node.tick()
    (claim,) = Claim.objects.all()
    (task,) = tasks(made)
    assert (claim.job_id, task.state, task.hold_code) == (task.pk, "queued", "claimed")
    assert Job.objects.get(pk=borrowed["id"]).state == "stopping"
    node.say(Phase.GONE)
    node.tick()
    assert tasks(made)[0].state == "placed"


def test_why_speaks_of_the_next_task(alice, node):
    made = array(alice, "0-5", time_limit="1h")
    node.start_everything()
    node.tick()
    told = alice("GET", f"jobs/{made['id']}/why")[1]
    assert (told["waits"], told["queue_place"]) == (True, 1)
    assert told["estimate"]["likely_at"] == told["kept_from"] == "2026-11-23T10:00:00Z"
    assert "tier normal" in told["terms"]


def test_states_filter_arrays_by_their_tasks(alice, node):
    made = array(alice, "0-5")
    run(node)
    plain = submit(alice, gpus=2)

    def ids(state):
        return [row["id"] for row in alice("GET", f"jobs?state={state}")[1]["results"]]

    assert ids("running") == [made["id"]]
    assert ids("queued") == [plain["id"], made["id"]]
    assert ids("failed") == []


def test_a_cycle_takes_as_many_queries_for_a_long_array_as_for_a_short_one(alice, node):
    def queries():
        with CaptureQueriesContext(connection) as caught:
            node.tick()
        return len(caught)

    array(alice, "0-3")
    node.tick()
    few = queries()
    array(alice, "0-999", gpus=2)
    queries()
    assert queries() == few


def test_the_rows_that_are_left_are_told_in_few_words(alice, node):
    made = array(alice, "0-9999%2")
    node.tick()
    row = Job.objects.get(pk=made["id"])
    assert (row.array_waiting, row.array_left) == ([[2, 9999, 1]], 9998)
    assert next(each(row.array_waiting)) == 2
