"""Many jobs in one request: all or none, and as many statements for many as for few."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from scheduling.models import Job, JobTransition
from tests.hand_node import node
from tests.integration.test_jobs_api import FORM, world
from tests.integration.test_jobs_run import alice

__all__ = ["alice", "node", "world"]


def test_a_list_becomes_jobs_in_its_order(alice, node):
    asked = [{**FORM, "name": f"n{number}", "args": [str(number)]} for number in range(30)]
    asked.append({**FORM, "array": "0-99", "name": "many"})
    status, answer = alice("POST", "jobs:batch", asked)
    assert status == 201
    rows = Job.objects.in_bulk(answer["ids"])
    assert [rows[job].name for job in answer["ids"]] == [*(f"n{number}" for number in range(30)), "many"]
    assert JobTransition.objects.count() == 31
    node.tick()
    assert Job.objects.filter(state="placed").exists()


@pytest.mark.parametrize(
    ("bad", "field", "words"),
    [
        ({**FORM, "gpus": 3}, "2.gpus", "Job 3 of the list: You asked for 3 GPUs on one machine"),
        ({**FORM, "gpus": -1}, "2.gpus", "2.gpus: Ensure this value is greater than or equal to 0."),
        ({**FORM, "tier": "urgent"}, "2.tier", "Job 3 of the list: There is no tier 'urgent'"),
        ({**FORM, "team": "blue"}, "2.team", "Job 3 of the list: There is no team 'blue' that you may run work in"),
        ({**FORM, "image": ""}, "2.image", "Job 3 of the list: Say in which image it runs"),
        ({**FORM, "array": "x"}, "2.array", "Job 3 of the list: 'x' is no array"),
        ({**FORM, "deadline": "2027-01-01T00:00:00Z"}, "2.deadline", "a job that has one is submitted by itself"),
        ("job", "2", "Invalid data. Expected a dictionary"),
        (None, "2", "This field may not be null."),
    ],
)
def test_one_bad_job_refuses_the_list_and_says_which(alice, node, bad, field, words):
    status, problem = alice("POST", "jobs:batch", [FORM, FORM, bad, FORM])
    assert status == 422
    assert problem["field"] == field
    assert words in problem["detail"]
    assert not Job.objects.exists()


@pytest.mark.parametrize("body", [[], {}, "null", "7", {"jobs": [FORM]}, [FORM] * 5001])
def test_what_is_no_list_of_jobs_is_refused(alice, node, body):
    status, problem = alice("POST", "jobs:batch", body)
    assert (status, problem["code"]) == (422, "no-list")


def test_too_many_kinds_of_jobs_are_refused(alice, node):
    asked = [{**FORM, "time_limit": seconds} for seconds in range(1, 203)]
    status, problem = alice("POST", "jobs:batch", asked)
    assert (status, problem["code"]) == (422, "too-many-kinds")


def test_a_list_that_comes_twice_with_its_key_makes_its_jobs_once(alice, node):
    answers = [alice("POST", "jobs:batch", [FORM] * 3, **{"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0] == answers[1]
    assert Job.objects.count() == 3
    assert alice("POST", "jobs:batch", [FORM] * 4, **{"Idempotency-Key": "k"})[0] == 409


def test_it_takes_as_many_statements_for_many_jobs_as_for_few(alice, node):
    def statements(count):
        with CaptureQueriesContext(connection) as caught:
            assert alice("POST", "jobs:batch", [{**FORM, "name": str(n)} for n in range(count)])[0] == 201
        # SQLite takes the rows in pieces.
        return len([query for query in caught if not query["sql"].startswith("INSERT")]), len(caught)

    statements(2)
    few, many = statements(2), statements(500)
    assert few[0] == many[0]
    if connection.vendor == "postgresql":
        assert few == many
