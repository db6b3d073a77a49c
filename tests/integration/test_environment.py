"""`make up` makes its environments once, makes half-made ones anew, and is instant afterwards."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.portal_process import ROOT


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
