"""The exchange of the one-process mode: what the agent is told while the database is in trouble."""

import pytest
from django.db import OperationalError

from portal import compose
from scheduling.nodes.exchange import Report

REPORT = Report(node="local", boot_id="boot")


def failing(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    def fail(report: Report, *, now: object) -> None:
        raise OperationalError(said)

    monkeypatch.setattr(compose.observed, "exchange", fail)
    monkeypatch.setattr(compose, "close_old_connections", lambda: None)  # a unit test has no database


def test_a_full_disk_is_a_control_plane_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the agent says one line for each round, and no traceback."""
    failing(monkeypatch, "database or disk is full")
    with pytest.raises(ConnectionError, match="an admin must free some space"):
        compose._exchange(REPORT)


def test_a_bug_of_ours_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "no such table: scheduling_node")
    with pytest.raises(OperationalError):
        compose._exchange(REPORT)
