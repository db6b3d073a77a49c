"""`make up` makes its environments once, makes half-made ones anew, and is instant afterwards."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.portal_process import ROOT
from tests.services import wait_for


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock without packages, so that only the environment itself takes time."""
    path = tmp_path / "nothing.lock"
    path.write_text("# nothing\n")
    return path


def make(folder: Path, lock: Path) -> str:
    script = ROOT / "deploy" / "environment.py"
    done = subprocess.run(
        [sys.executable, script, folder, lock], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_made_once_and_then_left_alone(tmp_path: Path, lock: Path) -> None:
    folder = tmp_path / "environment"
    assert make(folder, lock).startswith("Making")
    assert subprocess.run([folder / "bin" / "python", "-c", "import pip"]).returncode == 0
    assert make(folder, lock) == ""


def test_a_changed_lock_updates_it_in_place(tmp_path: Path, lock: Path) -> None:
    folder = tmp_path / "environment"
    make(folder, lock)
    (folder / "kept").touch()
    lock.write_text("# nothing else\n")
    assert make(folder, lock).startswith("Updating")
    assert (folder / "kept").exists()


def test_one_whose_making_was_interrupted_is_made_anew(tmp_path: Path, lock: Path) -> None:
    folder = tmp_path / "environment"
    make(folder, lock)
    next(folder.glob(".made-from-*")).unlink()  # it is written last
    (folder / "half-made").touch()
    assert make(folder, lock).startswith("Making")
    assert not (folder / "half-made").exists()


def begin(folder: Path, lock: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, ROOT / "deploy" / "environment.py", folder, lock],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def working_on(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
    return found


def test_two_at_once_make_one_environment(tmp_path: Path, lock: Path) -> None:
    folder = tmp_path / "environment"
    both = [begin(folder, lock) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("Making" in out for out, _ in said) == 1
    assert subprocess.run([folder / "bin" / "python", "-c", "import pip"]).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_says_so_without_a_traceback_and_leaves_no_process(
    tmp_path: Path, lock: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "environment"
    process = begin(folder, lock)
    wait_for(lambda: (folder / "pyvenv.cfg").exists(), seconds=30, what="venv to be at work")
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == f"Stopped; the next run finishes {folder}.\n", out
    # Killed with its session; the kernel may still be taking it down.
    wait_for(lambda: working_on(folder) == [], seconds=5, what="what it had started to be gone")
    assert make(folder, lock).startswith("Making")
