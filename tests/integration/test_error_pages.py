"""What a page and the API say when the database is away, Berth is broken or a request cannot be read."""

import logging
import sqlite3

import pytest
from django.core.cache import cache
from django.db import OperationalError, connection
from django.test import Client, override_settings

from portal import health
from portal.outages import FULL
from tests.people import People


def browser(people: People | None = None) -> Client:
    cache.clear()
    client = Client(headers={"host": "localhost:8000"}, raise_request_exception=False)
    if people:
        client.force_login(people.alice)
    return client


def full_disk(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
    error = OperationalError("database or disk is full")
    raise error from sqlite3.OperationalError("database or disk is full")


def bug(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
    raise OperationalError("no such table: x") from sqlite3.OperationalError("no such table: x")


def test_a_full_disk_is_a_page_with_one_sentence_and_503(people: People) -> None:
    client = browser(people)
    with connection.execute_wrapper(full_disk):
        answer = client.get("/")
    assert answer.status_code == 503
    assert FULL in answer.content.decode().replace("&#x27;", "'")


@pytest.mark.django_db
def test_a_full_disk_is_a_problem_of_503_to_programs() -> None:
    with connection.execute_wrapper(full_disk):
        answer = browser().get("/api/v1/workspaces", headers={"authorization": "Bearer x"})
    assert answer.status_code == 503
    assert answer["Content-Type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["detail"]) == ("unavailable", FULL)


def test_a_bug_is_500_with_an_id_as_a_page_and_as_a_problem(people: People) -> None:
    client = browser(people)
    with connection.execute_wrapper(bug):
        page, problem = client.get("/"), client.get("/api/v1/workspaces", headers={"authorization": "Bearer x"})
    assert page.status_code == problem.status_code == 500
    assert "Error id" in page.content.decode()
    assert problem["Content-Type"] == "application/problem+json"
    assert problem.json()["code"] == "broken"
    assert problem.json()["error_id"] in problem.json()["detail"]


@pytest.mark.django_db
def test_health_names_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_checks", {})
    with connection.execute_wrapper(full_disk):
        assert health.troubles() == {"database": FULL}


def test_little_space_in_the_data_folder_is_a_trouble(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert health.space_in(tmp_path)() == ""
    monkeypatch.setattr(health, "LITTLE_SPACE", 2**70)
    assert "free at least" in health.space_in(tmp_path)()
    assert "cannot be reached" in health.space_in(tmp_path / "gone")()


def test_another_host_name_gets_a_page_and_no_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        answer = browser().post("/login", {"username": "x"}, headers={"host": "evil.example"})
        problem = browser().post("/api/v1/workspaces", headers={"host": "evil.example", "origin": "http://a.example"})
    assert answer.status_code == 400
    assert "not served under this host name" in answer.content.decode()
    assert problem.status_code in (400, 401)
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("limit", "sentence"),
    [("DATA_UPLOAD_MAX_NUMBER_FIELDS", "more fields than"), ("DATA_UPLOAD_MAX_MEMORY_SIZE", "larger than")],
)
def test_a_form_beyond_measure_gets_a_page(limit: str, sentence: str) -> None:
    with override_settings(**{limit: 3}):
        body = "a=1&b=2&c=3&d=4&e=5"
        answer = browser().post("/login", body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 400
    assert sentence in answer.content.decode()
