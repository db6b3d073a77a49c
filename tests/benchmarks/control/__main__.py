"""`make bench-control`: what the control plane's loop costs, on a real PostgreSQL and Redis with simulated machines.

    make bench-control                          everything
    make bench-control ARGS="--only gang"       the cases whose name contains this

Each case runs in a process and on a database of its own. Of a cycle two figures are told: CPU seconds of this process
and of its PostgreSQL backend together, which a busy machine does not stretch, and the seconds on the clock, which it
does. No figure is asserted. Submissions over REST are measured by
`tests/benchmarks/submissions`, with web processes of their own and nobody who schedules.
"""

import argparse
import os
import subprocess
import sys
import tempfile

import psycopg

from tests.benchmarks.control.workers import measure_workers
from tests.benchmarks.core.measure import machine
from tests.benchmarks.submissions.__main__ import measure_submissions
from tests.portal_process import ROOT
from tests.services import postgres, redis_server

CASES = {
    "a cycle, 10,000 waiting, every card held": "full",
    "a cycle, 10,000 waiting, of every kind": "mixed",
    "400 starts": "starts",
    "a gang of 512 on 512 nodes": "gang",
}
SUBMISSIONS = "submissions over REST"
PROCESSES = "hint to cycle, and a dead leader replaced"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default="", help="run the cases whose name contains this")
    options.add_argument("--rounds", type=int, default=7, help="cycles, starts or gangs per case (default 7)")
    chosen = options.parse_args()
    print(machine(), flush=True)
    with postgres() as database, redis_server() as redis:
        for name, case in CASES.items():
            if chosen.only in name:
                print(f"\n{name}", flush=True)
                _run(database, redis, case, chosen.rounds)
        if chosen.only in PROCESSES:
            print(f"\n{PROCESSES}", flush=True)
            measure_workers(database, redis)
        if chosen.only in SUBMISSIONS:
            print(f"\n{SUBMISSIONS}", flush=True)
            measure_submissions(_new(database, "submissions"), redis, rounds=chosen.rounds)


def _new(database: str, case: str) -> str:
    """The URL of a new, empty database beside this one."""
    with psycopg.connect(database.replace("/berth?", "/postgres?"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE bench_{case}")
    return database.replace("/berth?", f"/bench_{case}?")


def _run(database: str, redis: str, case: str, rounds: int) -> None:
    """The case in a process of its own, which prints its figures."""
    own = _new(database, case)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BERTH_", "DJANGO_"))}
    with tempfile.TemporaryDirectory() as data:
        environment = {
            **kept,
            "BERTH_DATABASE_URL": own,
            "BERTH_REDIS_URL": redis,
            "BERTH_DATA": data,
            "DJANGO_SETTINGS_MODULE": "portal.settings",
        }
        command = [sys.executable, "-m", "tests.benchmarks.control.cases", case, str(rounds)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    main()
