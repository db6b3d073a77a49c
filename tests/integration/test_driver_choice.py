"""Which driver `BERTH_DRIVER=auto` takes, and that it says why it is not Docker."""

import pytest

from portal import compose

pytestmark = pytest.mark.django_db


def test_without_docker_it_takes_processes_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As for an ordinary user on a machine with an engine: he must learn that root is all that is missing."""
    monkeypatch.setattr(compose.settings, "BERTH_DRIVER", "auto")
    monkeypatch.setattr(compose, "engine_answers", lambda url: "A Docker Engine answers, but Berth needs root.")
    with caplog.at_level("INFO"):
        assert compose._driver_kind(None) == "process"
    assert "A Docker Engine answers, but Berth needs root." in caplog.text


def test_with_docker_it_takes_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose.settings, "BERTH_DRIVER", "auto")
    monkeypatch.setattr(compose, "engine_answers", lambda url: None)
    assert compose._driver_kind(None) == "docker"
