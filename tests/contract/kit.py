"""What the contract suite needs of a driver under test. Each driver brings one kit: see `conftest.py`."""

import os
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from scheduling.nodes.driver import ContainerSpec, Device, Driver, Mount, Observation

PATIENCE_S = 30.0


class Program(StrEnum):
    """What a container under test does. Whatever is said of its log is there within moments of its start."""

    SLEEP = "sleep"  # until it is told to end
    SERVE = "serve"  # answers HTTP at its address
    EXIT = "exit"  # logs "goodbye" and ends with code 3
    STUBBORN = "stubborn"  # logs "ready", and ignores SIGTERM
    DAEMON = "daemon"  # starts a process that leaves its session and has no environment; logs "ready"
    SHOW_ENV = "show-env"  # logs its environment as NAME=value lines, then "ready"
    CHATTY = "chatty"  # logs "line 1" to "line 50"
    WRITE_HOME = "write-home"  # leaves `note` with the word "kept" in its home, then logs "ready"
    MISSING = "missing"  # a program that does not exist


def real_command(program: Program, marker: str) -> tuple[str, ...]:
    """The program for drivers that really run something. `marker`: a number of seconds that finds it in `ps`."""
    sleep = f"exec sleep {marker}"
    serve = (
        "import http.server, os\n"
        "where = (os.environ.get('BERTH_BIND', '0.0.0.0'), int(os.environ['BERTH_PORT']))\n"
        "http.server.HTTPServer(where, http.server.SimpleHTTPRequestHandler).serve_forever()"
    )
    match program:
        case Program.SERVE:
            return ("python3", "-c", serve)
        case Program.MISSING:
            return ("/no/such/program",)
    script = {
        Program.SLEEP: sleep,
        Program.EXIT: "echo goodbye; exit 3",
        Program.STUBBORN: f"trap '' TERM; echo ready; while :; do sleep {marker} & wait; done",
        Program.DAEMON: f"( setsid env -i /bin/sh -c 'trap \"\" TERM; sleep {marker}; :' & ); echo ready; {sleep}",
        Program.SHOW_ENV: f"env; echo ready; {sleep}",
        Program.CHATTY: f"i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo line $i; done; {sleep}",
        Program.WRITE_HOME: f'echo kept > "$HOME/note"; echo ready; {sleep}',
    }[program]
    return ("/bin/sh", "-c", script)


class Kit(Protocol):
    """One driver with a place of its own. A context manager: leaving it removes everything, whatever a test did."""

    device: Device  # a GPU that the driver may hand out

    def driver(self) -> Driver:
        """A new driver object over the same place: the portal restarted."""

    def spec(self, allocation: str, program: Program, **changes: Any) -> ContainerSpec:
        """A spec that runs the program, with the volume "home-<allocation>" as its home unless changed."""

    def home(self, volume: str) -> Path | None:
        """Where the volume lies on this machine; None for a driver without files."""

    def leftovers(self, allocation: str) -> list[str]:
        """What is left of it on this machine, apart from volumes: processes, containers, files. For people to read."""


def processes_with(marker: str) -> list[str]:
    """Command lines of living processes that carry the marker as an argument (or in a script)."""
    found = []
    for name in os.listdir("/proc"):
        try:
            line = Path("/proc", name, "cmdline").read_bytes() if name.isdigit() else b""
        except OSError:
            continue
        if marker.encode() in line:
            found.append(f"{name}: {line.replace(bytes(1), b' ').decode(errors='replace')}")
    return found


def home_mount(allocation: str) -> tuple[Mount, ...]:
    return (Mount(volume=f"home-{allocation}", target="/home/berth"),)


T = TypeVar("T")


def eventually(look: Callable[[], T], *, what: str) -> T:
    """Look until it is true; the test fails saying `what` never came."""
    until = time.monotonic() + PATIENCE_S
    while not (seen := look()):
        assert time.monotonic() < until, f"never happened: {what}"
        time.sleep(0.02)
    return seen


def look_at(driver: Driver, allocation: str) -> Observation | None:
    return next((seen for seen in driver.observe() if seen.allocation == allocation), None)


def log_of(driver: Driver, allocation: str, *, tail: int = 200) -> list[str]:
    return [line.decode().rstrip("\n") for line in driver.logs(allocation, tail=tail)]


def no_progress(done: int, total: int) -> None:
    """For launches whose progress is of no interest."""
