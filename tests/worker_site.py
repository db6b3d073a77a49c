"""The processes of a portal as a cluster has them: workers on one PostgreSQL and one Redis, and hands to submit with."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from tests.portal_process import ROOT
from tests.services import wait_for


class Site:
    """A migrated database, and processes of one portal on it."""

    def __init__(self, database: str, redis: str, folder: Path, *, cards: int = 8) -> None:
        self.folder = folder
        self._begins = 0
        self.workers: dict[int, subprocess.Popen[Any]] = {}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BERTH_", "DJANGO_"))}
        self.environment = {
            **kept,
            "BERTH_DATABASE_URL": database,
            "BERTH_REDIS_URL": redis,
            "BERTH_DATA": str(folder),
            "DJANGO_SETTINGS_MODULE": "portal.settings",
            "PYTHONPATH": str(ROOT),
        }
        self._run("manage.py", "migrate", "--verbosity=0").wait(120)
        self.hands = self._run("-m", "tests.worker_hands", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask("build", cards)

    def _run(self, *command: str, **more: Any) -> subprocess.Popen[Any]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=self.environment,
                **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True, **more},
            )

    def ask(self, *words: object) -> Any:
        self.hands.stdin.write(json.dumps(words) + "\n")
        self.hands.stdin.flush()
        answer = self.hands.stdout.readline()
        assert answer, self.log()
        return json.loads(answer)

    def start_worker(self, name: str) -> None:
        process = self._run("-m", "celery", "-A", "portal", "worker", "-n", f"{name}@test", "--loglevel=INFO")
        self.workers[process.pid] = process

    def leader(self) -> int | None:
        """Which of our workers leads, as the database has it on record; None: none of them."""
        found = re.search(r":(\d+)$", self.ask("leader") or "")
        return int(found[1]) if found and int(found[1]) in self.workers else None

    def placed(self, job: int, *, seconds: float) -> None:
        try:
            wait_for(lambda: self.ask("state", job) == "placed", seconds=seconds, what=f"job {job} to be placed")
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.log()}") from None

    def stands_by(self, many: int) -> None:
        """So many workers found that another leads, since there last was none."""
        said = "stands by for the scheduling"
        wait_for(lambda: self.log().count(said) >= many, seconds=60, what="a standby")

    def log(self) -> str:
        """What was printed since there last was no worker."""
        return (self.folder / "log").read_bytes()[self._begins :].decode(errors="replace")

    def kill(self, number: int) -> None:
        """kill -9."""
        self.workers[number].send_signal(signal.SIGKILL)
        self.workers.pop(number).wait()

    def kill_workers(self) -> None:
        for number in [*self.workers]:
            self.kill(number)
        self._begins = (self.folder / "log").stat().st_size

    def end(self) -> None:
        self.kill_workers()
        self.hands.kill()
        self.hands.wait()


@contextlib.contextmanager
def worker_site(postgres_url: str, redis_url: str, *, cards: int = 8) -> Iterator[Site]:
    """On a database of its own in this server, which is dropped afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="berth-workers-"))
    server = postgres_url.replace("/berth?", "/postgres?")
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute("CREATE DATABASE workers")
    site = Site(postgres_url.replace("/berth?", "/workers?"), redis_url, folder, cards=cards)
    try:
        yield site
    finally:
        site.end()
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute("DROP DATABASE workers WITH (FORCE)")
        shutil.rmtree(folder, ignore_errors=True)
