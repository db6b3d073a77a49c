"""kill -9 in the middle of a launch, then `up` again: it finishes or ends with a reason, and nothing is left over."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.docker_engine import PrivateEngine
from tests.portal_api import PortalApi
from tests.portal_process import Portal, running_portal

#: seconds after the launch was asked for: before it is placed, while the container is made, while its server starts
MOMENTS = [0.0, 0.15, 0.6]


@pytest.fixture(scope="module", params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def started(request: pytest.FixtureRequest) -> Iterator[Portal]:
    environment = {}
    if request.param == "docker":
        engine: PrivateEngine = request.getfixturevalue("engine")
        request.getfixturevalue("lab_image")
        environment["BERTH_DOCKER_HOST"] = engine.url
    with running_portal(driver=request.param, **environment) as portal:
        yield portal


def ledger(portal: Portal) -> tuple[int, int]:
    """(live allocations, GPU units held), as the database has them."""
    with sqlite3.connect(f"file:{portal.data}/berth.sqlite3?mode=ro", uri=True) as database:
        live = database.execute("SELECT count(*) FROM scheduling_allocation WHERE released_at IS NULL").fetchone()[0]
        units = database.execute("SELECT coalesce(sum(held_units), 0) FROM scheduling_gpu").fetchone()[0]
    return live, units


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_launch_survives_kill_9_and_leaves_nothing_behind(started: Portal, moment: float) -> None:
    program = PortalApi(started)
    workspace = program.launch()
    time.sleep(moment)
    started.kill()
    started.start()
    seen = program.wait(workspace, "ready", "failed", "stopped")
    assert seen["state"] == "ready" or seen["reason"]
    assert bool(running(started)) == (seen["state"] == "ready")
    program.call("POST", f"workspaces/{workspace}/stop")
    program.wait(workspace, "stopped", "failed")
    assert ledger(started) == (0, 0)
    assert running(started) == []


def test_a_running_workspace_is_adopted_with_its_kernels(started: Portal) -> None:
    program = PortalApi(started)
    workspace = program.ready()["id"]
    kernel = program.jupyter("POST", workspace, "api/kernels")["id"]
    started.kill()
    started.start()
    seen = program.wait(workspace, "ready", "failed", "stopped")
    assert seen["state"] == "ready", seen
    assert [one["id"] for one in program.jupyter("GET", workspace, "api/kernels")] == [kernel]
    program.call("POST", f"workspaces/{workspace}/stop")
    program.wait(workspace, "stopped")
    assert running(started) == []


def running(portal: Portal) -> list[str]:
    """The servers of workspaces that are alive on this machine: container ids, or process numbers."""
    if portal.environment["BERTH_DRIVER"] == "docker":
        client = docker.DockerClient(base_url=portal.environment["BERTH_DOCKER_HOST"])
        try:
            return sorted(container.id for container in client.containers.list(all=True))
        finally:
            client.close()
    return sorted(str(number) for number, _ in portal.processes() if _has_allocation(number))


def _has_allocation(number: int) -> bool:
    try:
        return b"BERTH_ALLOCATION=" in Path(f"/proc/{number}/environ").read_bytes()
    except OSError:  # it has ended since
        return False
