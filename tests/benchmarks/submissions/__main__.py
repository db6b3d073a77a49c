"""`python -m tests.benchmarks.submissions`: how quickly jobs are accepted over REST, on PostgreSQL and Redis.

Two web processes take the requests, 64 simulated machines with 512 GPUs are on record, and no scheduler runs. Told are
requests on the clock, which a busy machine stretches, and the CPU seconds of the web processes and of PostgreSQL, which
it does not. No figure is asserted. `--rounds` is how often each case is measured; medians are told.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from urllib.parse import parse_qs, urlsplit

from tests.benchmarks.core.measure import machine
from tests.benchmarks.submissions.clients import Client, clients_at_once
from tests.portal_process import ROOT
from tests.services import free_port, postgres, redis_server, wait_for

SINGLES = 300
BATCH, TASKS = 1_000, 10_000
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    print(machine(), flush=True)
    with postgres() as database, redis_server() as redis:
        measure_submissions(database, redis, rounds=rounds)


def measure_submissions(database: str, redis: str, *, rounds: int = 5) -> None:
    """database: the URL of an empty database. Prints a line for each case."""
    with tempfile.TemporaryDirectory() as data:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("BERTH_", "DJANGO_"))},
            "BERTH_DATABASE_URL": database,
            "BERTH_REDIS_URL": redis,
            "BERTH_DATA": data,
            "DJANGO_SETTINGS_MODULE": "portal.settings",
        }
        made = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.submissions.world"],
            cwd=ROOT, env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        token, port = made.stdout.split()[-1], free_port()
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "tests.benchmarks.submissions.site:application",
            "--port",
            str(port),
            "--workers",
            "2",
        ]
        with (Path(data) / "web.log").open("wb") as log:
            web = subprocess.Popen(
                [*command, "--lifespan", "off", "--no-access-log", "--log-level", "warning"],
                cwd=ROOT, env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            wait_for(lambda: Client(port, token).lists(), seconds=90, what="the web processes")
            _cases(port, token, Meter(web.pid, _server_of(database)), rounds)
        finally:
            web.terminate()
            web.wait(timeout=30)


@dataclass(frozen=True, slots=True)
class Meter:
    """Reads the CPU seconds of two trees of processes. web, server: their topmost."""

    web: int
    server: int

    def read(self) -> tuple[float, float]:
        parents: dict[int, int] = {}
        seconds: dict[int, float] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                fields = (entry / "stat").read_text().rsplit(") ", 1)[1].split()
            except (OSError, IndexError):
                continue
            # Its own, and of its children that have ended: a backend may come and go in between.
            parents[int(entry.name)] = int(fields[1])
            seconds[int(entry.name)] = sum(int(field) for field in fields[11:15]) / _TICKS
        web, server = (
            sum(seconds[pid] for pid in seconds if pid == top or parents[pid] == top) for top in (self.web, self.server)
        )
        return web, server


def _server_of(database: str) -> int:
    """The process of the PostgreSQL that has its socket where the URL says."""
    folder = parse_qs(urlsplit(database).query)["host"][0]
    return int((Path(folder) / "data" / "postmaster.pid").read_text().split()[0])


def _cases(port: int, token: str, meter: Meter, rounds: int) -> None:
    clients_at_once(port, token, clients=4, submits=40)  # both processes have loaded what they need
    for clients, target in ((1, "100"), (4, "150")):
        jobs = SINGLES // clients * clients
        act = partial(clients_at_once, port, token, clients=clients, submits=SINGLES // clients)
        name = f"single submits, {clients} client{'s' if clients > 1 else ''}"
        _told(name, act, jobs, meter, rounds, f"{target} jobs/s")
    client = Client(port, token)
    _told(f"a list of {BATCH:,} jobs", partial(client.batch, BATCH), BATCH, meter, rounds, "1,000 jobs/s")
    _told(f"an array of {TASKS:,} tasks", partial(client.array, TASKS), 0, meter, rounds, "0.5 s")


def _told(what: str, act: Callable[[], object], jobs: int, meter: Meter, rounds: int, target: str) -> None:
    clock, web, database = [], [], []
    for _ in range(rounds):
        before, began = meter.read(), time.perf_counter()
        act()
        clock.append(time.perf_counter() - began)
        time.sleep(0.2)  # what is published after the answer belongs to it
        after = meter.read()
        web.append(after[0] - before[0])
        database.append(after[1] - before[1])
    seconds = median(clock)
    rate = f"{jobs / seconds:,.0f} jobs/s" if jobs else f"{seconds:.3f} s"
    each = f"{1000 * median(web) / (jobs or 1):.2f} + {1000 * median(database) / (jobs or 1):.2f}"
    print(
        f"{what}: {rate} on the clock ({min(clock):.2f} to {max(clock):.2f} s); CPU of web and PostgreSQL "
        f"{each} ms{' each' if jobs else ''}; target {target}",
        flush=True,
    )


if __name__ == "__main__":
    main()
