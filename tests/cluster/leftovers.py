"""What a cluster has on this machine, found by its names alone: so that one that was killed can be cleared away, too."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

PREFIX = "berth-cluster-"


def folder_of_this_process() -> Path:
    """A new folder that says whose it is."""
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    folder.chmod(0o711)
    return folder


def clear_the_dead() -> None:
    """Take away what clusters left whose process was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = re.fullmatch(rf"{PREFIX}(\d+)-.*", folder.name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            clear(folder, tag=f"berth-c{owner[1]}")


def clear(folder: Path, *, tag: str) -> None:
    """Kill what still runs, then take namespaces, mounts, cgroups and the folder away. Nothing left is no error."""
    while found := processes(folder, tag):
        for number in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.1)
    for name in namespaces(tag):
        subprocess.run(["ip", "netns", "del", name], check=True)
    for link in links(tag):  # the kernel takes them away with their namespaces, but in its own time
        subprocess.run(["ip", "link", "del", link], check=False, capture_output=True)
    containers = [path.name for path in folder.glob("*/data/containers/*")]
    for place in sorted(mounts(folder), reverse=True):
        subprocess.run(["umount", "-l", place], check=True)
    for group in [path for name in containers for path in Path("/sys/fs/cgroup").glob(f"*/docker/{name}")]:
        with contextlib.suppress(FileNotFoundError):
            group.rmdir()
    shutil.rmtree(folder, ignore_errors=True)


def left(folder: Path, *, tag: str) -> list[str]:
    """What is there still, in words; empty after a clean stop."""
    numbers = processes(folder, tag)
    return [
        *(f"process {number}: {_command(number)}" for number in sorted(numbers)),
        *(f"namespace {name}" for name in namespaces(tag)),
        *(f"mount {place}" for place in mounts(folder)),
        *(f"link {link}" for link in links(tag)),
        *([f"folder {folder}"] if folder.exists() else []),
    ]


def processes(folder: Path, tag: str) -> set[int]:
    """Whoever has the folder in command, environment or working folder, is in one of the namespaces, or was started by
    such a one, as what runs in a container is by its engine. Never this process or what it descends from."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    mark = str(folder).encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended while we looked
            state = (entry / "stat").read_text().rpartition(")")[2].split()
            if state[0] == "Z":
                continue
            parents[int(entry.name)] = int(state[1])
            command = (entry / "cmdline").read_bytes()
            if command and mark in command + (entry / "environ").read_bytes() + os.readlink(entry / "cwd").encode():
                found.add(int(entry.name))
    for name in namespaces(tag):
        found |= {int(number) for number in _lines("ip", "netns", "pids", name)}
    while children := {number for number, parent in parents.items() if parent in found} - found:
        found |= children
    here, ours = os.getpid(), set()
    while here > 1:
        ours.add(here)
        here = parents.get(here, 0)
    return found - ours


def namespaces(tag: str) -> list[str]:
    return [name for line in _lines("ip", "netns", "list") if (name := line.split()[0]).startswith(f"{tag}-")]


def links(tag: str) -> list[str]:
    """This machine's ends of the cluster's wires."""
    names = [line.split()[0].partition("@")[0] for line in _lines("ip", "-br", "link")]
    return [name for name in names if name == tag.replace("berth-c", "bc")]


def mounts(folder: Path) -> list[str]:
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return [place for place in places if place.startswith(f"{folder}/")]


def _lines(*argv: str) -> list[str]:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()


def _command(number: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
    return "(just ended)"
