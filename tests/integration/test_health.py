"""/healthz says what is not well, by part."""

import pytest
from django.test import Client

from portal import health


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is expected of this process yet."""
    monkeypatch.setattr(health, "_checks", {})


@pytest.mark.django_db
def test_a_part_that_is_not_well_makes_it_503_and_is_named(parts: None) -> None:
    health.expect("gateway", lambda: "")
    health.expect("agent", lambda: "The node agent has not reported yet.")
    answer = Client().get("/healthz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "troubles": {"agent": "The node agent has not reported yet."}}


@pytest.mark.django_db
def test_it_is_200_again_when_the_part_is_well_again(parts: None) -> None:
    said = ["It sleeps.", ""]
    health.expect("worker", lambda: said.pop(0))
    assert [Client().get("/healthz").status_code for _ in range(2)] == [503, 200]
