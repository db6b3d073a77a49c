"""Private servers for the tests: each on a free port or a socket of its own, gone with the test that asked for it.

A server that cannot be started fails the test; it is never a reason to skip.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def wait_for(question: Callable[[], object], *, seconds: float, what: str) -> object:
    """Ask until the answer is true; after `seconds` the test fails and says what it waited for."""
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.05)


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL cluster with an empty database `berth`, reached by a socket; yields its URL."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    assert programs, "PostgreSQL is not installed: run tests/prepare.py as root"
    folder = Path(tempfile.mkdtemp(prefix="berth-pg-"))
    account = unprivileged("postgres")
    if account:
        os.chown(folder, pwd.getpwnam(account).pw_uid, pwd.getpwnam(account).pw_gid)
    identity = {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []} if account else {}
    data, log = folder / "data", (folder / "log").open("wb")
    subprocess.run(
        [programs[-1] / "initdb", "-D", data, "-U", "berth", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"],
        check=True, stdout=log, stderr=log, cwd=folder, **identity,
    )  # fmt: skip
    options = ["listen_addresses=", "fsync=off", "max_connections=120", "timezone=UTC", "shared_buffers=32MB"]
    server = subprocess.Popen(
        [programs[-1] / "postgres", "-D", data, "-k", folder, *(part for o in options for part in ("-c", o))],
        stdout=log, stderr=log, cwd=folder, **identity,
    )  # fmt: skip
    try:
        wait_for(lambda: _accepts(f"postgresql://berth@/postgres?host={folder}", server), seconds=30, what="PostgreSQL")
        with psycopg.connect(f"postgresql://berth@/postgres?host={folder}", autocommit=True) as connection:
            connection.execute("CREATE DATABASE berth")
        yield f"postgresql://berth@/berth?host={folder}"
    finally:
        _end(server, signal.SIGINT)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def redis_server() -> Iterator[str]:
    """A Redis without persistence on a free loopback port; yields its URL."""
    program = shutil.which("redis-server")
    assert program, "Redis is not installed: run tests/prepare.py as root"
    port = free_port()
    server = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
        cwd=tempfile.gettempdir(),
    )
    try:
        with redis.Redis(port=port) as client:
            wait_for(lambda: _pings(client), seconds=15, what="Redis")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        _end(server, signal.SIGTERM)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with redis_server() as url:
        yield url


def unprivileged(name: str) -> str | None:
    """PostgreSQL refuses to run as root: its own account, or `nobody`; None when we are nobody special already."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        return "nobody"


def _accepts(url: str, server: subprocess.Popen[bytes]) -> bool:
    assert server.poll() is None, "PostgreSQL ended while starting"
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _pings(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _end(server: subprocess.Popen[bytes], number: int) -> None:
    server.send_signal(number)
    try:
        server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
