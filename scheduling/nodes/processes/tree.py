"""Which processes of this machine belong to which allocation: read from /proc, never remembered by pid alone."""

import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

ALLOCATION, SITE = "BERTH_ALLOCATION", "BERTH_SITE"
_DEAD = "ZXx"  # states of a process of which nothing but the entry is left


@dataclass(frozen=True, slots=True)
class Process:
    """A pid means nothing without its start: the kernel hands numbers out again. `started` is in ticks since boot."""

    pid: int
    parent: int
    started: int


def processes_of(
    site: str, supervisors: Mapping[str, tuple[int, int]] = MappingProxyType({})
) -> dict[str, list[Process]]:
    """The living processes of each allocation of this site.

    A process belongs where its environment says, else where its nearest marked ancestor belongs: one that cleared its
    environment is still found below its supervisor, to whom the kernel gives every orphan. `supervisors`: (pid, start)
    of each allocation's, as far as they were written down. They count as marked as long as they are there: a process
    that is ending has no environment any more, and that of a supervisor lasts until all below it are gone.
    """
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    marks = {pid: mark for pid in pids if (mark := _mark(pid, site))}
    marks |= {pid: allocation for allocation, (pid, started) in supervisors.items() if alive(pid, started)}
    if not marks:
        return {}
    living = {pid: process for pid in pids if (process := read(pid))}
    found: dict[str, list[Process]] = defaultdict(list)
    for process in living.values():
        pid, seen = process.pid, set[int]()
        while pid in living and pid not in marks and pid not in seen:
            seen.add(pid)
            pid = living[pid].parent
        if pid in marks and process.pid != os.getpid():
            found[marks[pid]].append(process)
    return found


def read(pid: int) -> Process | None:
    """The process that has this pid now; None if there is none, or only its corpse."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold anything, so the fields are counted from its end: 3 is the state.
            fields = file.read().rsplit(b") ", 1)[1].split()
    except (OSError, IndexError):
        return None
    if fields[0].decode() in _DEAD:
        return None
    return Process(pid=pid, parent=int(fields[1]), started=int(fields[19]))


def alive(pid: int, started: int) -> bool:
    process = read(pid)
    return process is not None and process.started == started


def send(process: Process, signum: signal.Signals) -> None:
    """Signal exactly this process; if it is gone, whoever has its number now is left alone."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(process.pid)
        try:
            if alive(process.pid, process.started):
                signal.pidfd_send_signal(handle, signum)
        finally:
            os.close(handle)


def _mark(pid: int, site: str) -> str:
    """The allocation in a process's environment, or nothing if it is of no allocation of this site."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environ = file.read()
    except OSError:
        return ""
    if ALLOCATION.encode() not in environ:
        return ""
    pairs = dict(pair.split("=", 1) for pair in environ.decode(errors="replace").split("\0") if "=" in pair)
    return pairs.get(ALLOCATION, "") if pairs.get(SITE) == site else ""
