"""The pure parts of the process driver: what stands in the way, what an exit means, whose a process is."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from scheduling.nodes.processes import reach, reasons, tree


def test_the_topmost_closed_folder_is_the_one_in_the_way(tmp_path: Path) -> None:
    deep = tmp_path / "open" / "closed" / "open" / "closed" / "leaf"
    deep.mkdir(parents=True)
    tmp_path.parent.chmod(0o755)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o700 if path.name == "closed" else 0o755)
    above = [folder for folder in (tmp_path, *tmp_path.parents) if not folder.stat().st_mode & 0o001]
    assert reach.closed_above(deep) == (above[-1] if above else tmp_path / "open" / "closed")


def test_an_open_way_has_nothing_in_it() -> None:
    assert reach.closed_above(Path("/usr/bin/env")) is None


def test_every_step_of_a_linked_interpreter_counts(tmp_path: Path) -> None:
    real = tmp_path / "3.11.7" / "bin" / "python3.11"
    real.parent.mkdir(parents=True)
    real.touch()
    (tmp_path / "3.11").symlink_to("3.11.7")
    lab = tmp_path / "lab" / "bin" / "python"
    lab.parent.mkdir(parents=True)
    lab.symlink_to(tmp_path / "3.11" / "bin" / "python3.11")
    assert reach.places_of(lab) == [tmp_path / "lab", tmp_path / "3.11", tmp_path / "3.11.7"]


@pytest.mark.parametrize(
    ("exit_code", "log", "code", "words"),
    [
        (0, "", "exited", "ended by itself"),
        (3, "goodbye", "exited", "exit code 3"),
        (137, "", "killed", "SIGKILL"),
        (128 + 99, "", "killed", "signal 99"),
        (1, "OSError: [Errno 98] Address already in use", "port-taken", "start it again"),
        (1, "The port 8888 is already in use", "port-taken", "start it again"),
        (1, "OSError: [Errno 28] No space left on device", "no-disk", "disk"),
        (0, "an earlier try: address already in use", "exited", "ended by itself"),
    ],
)
def test_an_exit_is_explained_by_its_code_and_its_last_words(exit_code: int, log: str, code: str, words: str) -> None:
    found, sentence = reasons.explain_exit(exit_code, log)
    assert found == code
    assert words in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize("code", reasons.SENTENCES)
def test_every_refusal_is_a_whole_sentence(code: str) -> None:
    refusal = reasons.refused(code, detail="this", program="that")
    assert refusal.code == code
    assert refusal.message[0].isupper()
    assert refusal.message[-1] in ".`"
    assert "{" not in refusal.message


def test_a_process_is_known_by_its_start_and_not_only_by_its_number() -> None:
    me = tree.read(os.getpid())
    assert me
    assert me.parent == os.getppid()
    assert tree.alive(me.pid, me.started)
    assert not tree.alive(me.pid, me.started + 1)


def test_a_number_that_nobody_has_is_no_process() -> None:
    assert tree.read(2**22 + 1) is None


def test_what_has_no_environment_any_more_is_found_below_the_supervisor_that_was_written_down() -> None:
    """A supervisor that is ending has lost its own mark already, and may still wait for what it started."""
    ending = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & echo $!; wait"], env={}, stdout=subprocess.PIPE, text=True)
    try:
        assert ending.stdout
        below = int(ending.stdout.readline())
        supervisor = tree.read(ending.pid)
        assert supervisor
        written_down = {"a1": (supervisor.pid, supervisor.started), "a2": (supervisor.pid, supervisor.started + 1)}
        found = tree.processes_of("of-no-site", written_down)
        assert {process.pid for process in found["a1"]} == {ending.pid, below}
        assert list(found) == ["a1"]  # a2's number was handed to somebody else
    finally:
        os.kill(below, signal.SIGKILL)
        ending.communicate()
