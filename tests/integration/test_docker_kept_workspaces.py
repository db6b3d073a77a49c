"""`make up ARGS=--keep`: Docker workspaces outlive the portal, and the next start adopts them."""

import urllib.request
from collections.abc import Iterator

import docker
import pytest

from tests.docker_engine import PrivateEngine
from tests.portal_api import PortalApi
from tests.portal_process import Portal, running_portal

pytestmark = pytest.mark.docker


@pytest.fixture
def with_docker(engine: PrivateEngine, lab_image: str) -> Iterator[Portal]:
    with running_portal(driver="docker", BERTH_DOCKER_HOST=engine.url) as portal:
        yield portal


def containers(engine: PrivateEngine) -> list[str]:
    client = docker.APIClient(base_url=engine.url, version="auto")
    try:
        return sorted(str(found["Id"]) for found in client.containers(filters={"label": "berth.allocation"}))
    finally:
        client.close()


def answers(portal: Portal, api: PortalApi, workspace: str) -> bool:
    """The workspace's own Jupyter server, through the gateway."""
    request = urllib.request.Request(
        f"{portal.gateway_url}/w/{workspace}/api/status", headers={"Authorization": f"Bearer {api.token}"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return bool(answer.status == 200)


def test_a_kept_workspace_runs_on_and_is_adopted(with_docker: Portal, engine: PrivateEngine) -> None:
    portal = with_docker
    portal.stop()
    portal.start("--keep")
    api = PortalApi(portal)
    workspace = api.launch(image="berth-lab")
    before = api.wait(workspace, "ready")
    running = containers(engine)
    assert len(running) == 1

    portal.stop()
    assert containers(engine) == running, "it was kept"
    portal.start()
    after = api.wait(workspace, "ready")
    assert containers(engine) == running, "the same container, not a new one"
    assert after["ready_at"] == before["ready_at"]
    assert answers(portal, api, workspace)

    portal.stop()
    assert containers(engine) == [], "without --keep it ends with the portal"


def test_kill_9_in_the_middle_of_a_docker_launch_leaves_no_orphan(with_docker: Portal, engine: PrivateEngine) -> None:
    portal = with_docker
    api = PortalApi(portal)
    workspace = api.launch(image="berth-lab", gpus=2)
    api.wait(workspace, "placed", "pulling", "starting", "ready")
    portal.kill()

    portal.start()
    settled = api.wait(workspace, "ready", "failed", "stopped")
    assert settled["state"] == "ready" or settled["reason"]
    api.call("POST", f"workspaces/{workspace}/stop")
    api.wait(workspace, "stopped", "failed")
    assert containers(engine) == []
    another = api.launch(image="berth-lab", gpus=2)
    api.wait(another, "ready")
