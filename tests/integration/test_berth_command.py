"""The `berth` command against a running portal, as a person at a terminal has it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.portal_api import PortalApi
from tests.portal_process import ROOT, Portal, running_portal


@pytest.fixture(scope="module")
def up():
    with running_portal(driver="process") as portal:
        yield portal


class Terminal:
    def __init__(self, home: Path) -> None:
        self._variables = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(ROOT)}

    def __call__(self, *words: str, typed: str = "") -> tuple[int, str, str]:
        """(exit code, output, what was said beside it)."""
        done = subprocess.run(
            [sys.executable, "-m", "portal.cli.main", *words],
            env=self._variables, input=typed, capture_output=True, text=True, timeout=90, cwd="/",
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout.strip(), done.stderr.strip()


@pytest.fixture(scope="module")
def berth(up: Portal, tmp_path_factory):
    terminal = Terminal(tmp_path_factory.mktemp("home"))
    code, said, _ = terminal("login", up.url, "--token-stdin", typed=PortalApi(up).token)
    assert (code, said.startswith(f"Signed in at {up.url}")) == (0, True)
    return terminal


SMALL = ("--cpus", "0.1", "--memory", "0.25")


def test_the_token_is_kept_for_nobody_else(berth):
    kept = Path(berth._variables["HOME"]) / ".config/berth/login.json"
    assert kept.stat().st_mode & 0o077 == 0


def test_run_follows_a_job_and_ends_with_its_code(berth):
    code, output, said = berth("run", *SMALL, "--name", "talk", "--", "sh", "-c", "echo done; exit 7")
    assert (code, output) == (7, "done")
    assert "is failed: Its program ended with exit code 7." in said
    assert berth("run", "-q", *SMALL, "--", "true")[0] == 0
    assert berth("run", *SMALL, "--time", "1s", "--", "sleep", "60")[0] == 124


def test_submit_list_show_and_cancel(berth):
    code, number, _ = berth("submit", "-q", *SMALL, "--name", "long one", "--env", "A=1", "--", "sleep", "300")
    assert (code, number.isdecimal()) == (0, True)
    code, listed, _ = berth("ls")
    assert code == 0
    head, first = listed.splitlines()[:2]
    assert head.split() == ["ID", "NAME", "TEAM", "OWNER", "STATE", "GPUS", "SUBMITTED", "WHY"]
    assert first.split()[0] == number
    assert "long one" in first
    assert berth("ls", "-q", "--state", "cancelled")[1] == ""
    code, shown, _ = berth("show", number)
    assert "program    sleep 300" in shown
    assert json.loads(berth("show", "--json", number)[1])["env"] == {"A": "1"}
    assert berth("cancel", number)[0] == 0
    assert berth("show", number)[1].splitlines()[1].split()[1] in ("stopping", "cancelled")


def test_a_script_from_a_file_or_from_standard_input(berth, tmp_path):
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\necho $1 and $BERTH_JOB_ID\n")
    code, output, _ = berth("run", *SMALL, "--script", str(script), "--", "one")
    assert (code, output.startswith("one and ")) == (0, True)
    assert berth("run", *SMALL, "--script", "-", typed="exit 3")[0] == 3


def test_why_tells_of_what_waits(berth):
    berth("submit", *SMALL, "--gpus", "2", "--time", "5m", "--", "sleep", "300")
    number = berth("submit", "-q", *SMALL, "--gpus", "2", "--time", "5m", "--", "true")[1]
    code, told, _ = berth("why", number)
    assert code == 0
    assert told.startswith("why ")
    assert "\nstart " in told
    assert json.loads(berth("why", "--json", number)[1])["waits"] is True
    for job in berth("ls", "-q", "--state", "queued,running,placed,starting")[1].split():
        berth("cancel", job)


def test_an_array_is_one_line(berth):
    number = berth("submit", "-q", *SMALL, "--array", "0-4%2", "--", "true")[1]
    assert "0-4%2" in berth("show", "--json", number)[1]
    assert berth("ls", "-q")[1].split()[0] == number


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("submit", "--tier", "urgent", "--", "true"), 1, "There is no tier 'urgent'"),
        (("submit", "--gpus", "99", "--", "true"), 1, "You asked for 99 GPUs"),
        (("submit",), 1, "Say what to run: a command, or a script."),
        (("submit", "--gpus", "many", "--", "true"), 2, "invalid int value"),
        (("submit", "--env", "A", "--", "true"), 2, "--env takes NAME=VALUE, not A."),
        (("submit", "--script", "/no/such/file"), 2, "/no/such/file"),
        (("show", "99999"), 3, "There is no such job"),
        (("cancel", "99999"), 3, "There is no such job"),
        (("fly",), 2, "invalid choice"),
    ],
)
def test_exit_codes_and_one_sentence(berth, words, code, said):
    got, _, told = berth(*words)
    assert got == code
    assert said in told


def test_without_a_login_or_a_portal_it_says_so(tmp_path, berth):
    nobody = Terminal(tmp_path)
    assert nobody("ls")[::2] == (4, "berth: Nobody is signed in here; run `berth login URL` first.")
    assert nobody("login", "http://localhost:9", "--token-stdin", typed="x")[0] == 5
    code, _, said = nobody("login", "http://example.org", "--token-stdin", typed="x")
    assert (code, "would cross the network in the open" in said) == (5, True)
    assert nobody("login", "http://localhost:9", "--token-stdin", typed="")[0] == 2


def test_a_token_that_is_none_is_refused(up, tmp_path):
    code, _, said = Terminal(tmp_path)("login", up.url, "--token-stdin", typed="nonsense")
    assert (code, "unknown, expired or revoked" in said) == (4, True)
