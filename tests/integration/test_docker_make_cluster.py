"""`make cluster` as a person runs it: it says where it is, Ctrl-C takes all of it away, and so does the next start after
a kill -9."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import leftovers
from tests.cluster.network import CannotRun
from tests.cluster.starting import running_cluster
from tests.portal_process import ROOT
from tests.services import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.long]


@dataclass
class Started:
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def folder(self) -> Path:
        found = re.search(r"logs: (\S+)/\*\.log", self.said)
        assert found, self.said
        return Path(found[1])

    @property
    def tag(self) -> str:
        return f"berth-c{self.process.pid}"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster", "--no-lab", "--nodes", "1"],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    made = Started(process, log)
    wait_for(lambda: process.poll() is not None or "is ready" in made.said, seconds=180, what="the cluster")
    assert process.poll() is None, made.said
    yield made
    if process.poll() is None:
        process.kill()
        process.wait()
    leftovers.clear_the_dead()


def test_ctrl_c_leaves_nothing_behind(started: Started):
    folder = started.folder
    assert re.search(r"^ +n1 +ready +2 sim", started.said, re.MULTILINE)
    assert leftovers.left(folder, tag=started.tag), "what is to go is found by the same look"
    started.process.send_signal(signal.SIGINT)
    assert started.process.wait(timeout=90) == 0, started.said
    assert "nothing is left" in started.said
    assert leftovers.left(folder, tag=started.tag) == []


def test_after_a_kill_9_the_next_start_clears_it_away(started: Started):
    folder = started.folder
    started.process.kill()
    started.process.wait()
    assert leftovers.left(folder, tag=started.tag)
    leftovers.clear_the_dead()
    assert leftovers.left(folder, tag=started.tag) == []


def test_without_root_it_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CannotRun, match="needs root"), running_cluster():
        pass
