"""A Jupyter client that nobody here wrote works through the gateway, with nothing but an API token."""

from collections.abc import Iterator

import pytest
from jupyter_kernel_client import JupyterKernelClient

from tests.docker_engine import PrivateEngine
from tests.portal_api import PortalApi
from tests.portal_process import Portal, running_portal


@pytest.fixture(scope="module", params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def started(request: pytest.FixtureRequest) -> Iterator[Portal]:
    environment = {}
    if request.param == "docker":
        engine: PrivateEngine = request.getfixturevalue("engine")
        request.getfixturevalue("lab_image")
        environment["BERTH_DOCKER_HOST"] = engine.url
    with running_portal(driver=request.param, **environment) as portal:
        yield portal


def test_it_creates_a_kernel_and_executes_code(started: Portal) -> None:
    program = PortalApi(started)
    workspace = program.ready()
    client = JupyterKernelClient(
        server_url=workspace["url"].rstrip("/"),
        token=program.token,
        headers={"Authorization": f"Bearer {program.token}"},
    )
    client.start()
    try:
        reply = client.execute("import os\nprint(6*7, os.environ.get('BERTH_SIMULATED_GPUS'))")
        assert reply["status"] == "ok"
        said = "".join(output.get("text", "") for output in reply["outputs"])
        assert said.split() == ["42", workspace["devices"][0]["uuid"]]
        assert client.execute("import os; assert 'BERTH_TOKEN' not in os.environ")["status"] == "ok"
    finally:
        client.stop()
    program.call("POST", f"workspaces/{workspace['id']}/stop")
    program.wait(workspace["id"], "stopped")
