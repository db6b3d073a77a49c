"""What every test may ask for, and what none may do: talk to anything but this machine."""

import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import hypothesis
import pytest

from portal.kernel import clock
from tests.docker_engine import docker_node, engine, lab_image
from tests.lanes import DOCKER, Lanes, lane_of
from tests.people import People, make_people
from tests.portal_process import Portal, running_portal
from tests.services import postgres_url, redis_url

__all__ = ["docker_node", "engine", "lab_image", "postgres_url", "redis_url"]

hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")

# A build server's shell may have started us in the background, where these are ignored, and so would all our children.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)

_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex


def _refuse_strangers(sock: socket.socket, address: Any) -> None:
    """Loopback, Unix sockets, and the private networks of containers that a test itself has started."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        host = ipaddress.ip_address("127.0.0.1" if address[0] == "localhost" else address[0])
        if not (host.is_loopback or host.is_private) or host.is_link_local:
            raise AssertionError(f"A test tried to reach {host}; tests talk to this machine only.")


def _guarded_connect(sock: socket.socket, address: Any) -> None:
    _refuse_strangers(sock, address)
    return _connect(sock, address)


def _guarded_connect_ex(sock: socket.socket, address: Any) -> int:
    _refuse_strangers(sock, address)
    return _connect_ex(sock, address)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Which tests run on both databases, and which have Docker.

    Whatever uses the database in this process must say the same on both; `tests/run.py` selects by this mark. Not the
    pages in a browser: they take minutes and ask the database nothing that the other tests do not ask.
    """
    fixtures = {*getattr(item, "fixturenames", ())}
    if "e2e" not in item.path.parts and (item.get_closest_marker("django_db") or {"db", "transactional_db"} & fixtures):
        item.add_marker("databases")
    if (item.get_closest_marker("docker") or "engine" in fixtures) and lane_of(item.nodeid) != DOCKER:
        raise pytest.UsageError(f"{item.nodeid} uses Docker: its name, or its file's, must say so (tests/lanes.py)")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    return Lanes(config, log)


@pytest.fixture(scope="session", autouse=True)
def no_strangers() -> Iterator[None]:
    """Sockets off, but for this machine."""
    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", _guarded_connect)
    patch.setattr(socket.socket, "connect_ex", _guarded_connect_ex)
    yield
    patch.undo()


@pytest.fixture
def manual_clock() -> Iterator[clock.ManualClock]:
    """Time stands still at START until the test advances it."""
    still = clock.ManualClock(START)
    with clock.using(still):
        yield still


@pytest.fixture
def people(db: None) -> People:
    return make_people()


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    """The whole product with the process driver, on free ports."""
    with running_portal(driver="process") as started:
        yield started
