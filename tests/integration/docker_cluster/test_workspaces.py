"""A workspace of a cluster: asked for at one web process, run on a node, opened through any gateway, by its owner alone."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_kernel_client import JupyterKernelClient

from tests.cluster.cluster import Cluster
from tests.cluster.work import api_of
from tests.services import wait_for

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def lab(cluster: Cluster, tokens: dict[str, str]) -> Iterator[dict[str, Any]]:
    """alice's workspace with a GPU, launched at the first web process itself."""
    api = api_of(cluster, tokens["alice"], url=f"http://127.0.0.1:{cluster.web_ports[0]}")
    made = api.ready(team="red", gpus=1)
    yield made
    api.call("POST", f"workspaces/{made['id']}/stop")
    api.wait(made["id"], "stopped")
    assert cluster.nodes[made["node"]].containers() == []


def test_it_runs_in_a_container_of_the_node_that_it_was_placed_on(cluster: Cluster, lab: dict[str, Any]):
    (found,) = cluster.nodes[lab["node"]].containers()
    assert (found["Labels"]["berth.team"], found["State"]) == ("red", "running")
    assert [node.name for node in cluster.nodes.values() if node.containers()] == [lab["node"]]


def test_the_other_web_process_knows_it_too(cluster: Cluster, tokens: dict[str, str], lab: dict[str, Any]):
    other = api_of(cluster, tokens["alice"], url=f"http://127.0.0.1:{cluster.web_ports[1]}")
    assert other.workspace(lab["id"])["state"] == "ready"


def test_a_cell_runs_on_the_node_through_proxy_gateway_and_agent(
    cluster: Cluster, tokens: dict[str, str], lab: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    as_a_browser_looks_names_up(monkeypatch)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cluster.tls.certificate))
    monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(cluster.tls.certificate))
    headers = {"Authorization": f"Bearer {tokens['alice']}"}
    with JupyterKernelClient(server_url=lab["url"].rstrip("/"), token=None, headers=headers) as kernel:
        reply = kernel.execute("import os; print(os.environ['BERTH_ALLOCATION'], 6 * 7)")
    assert reply["status"] == "ok", reply
    allocation, product = reply["outputs"][0]["text"].split()
    (found,) = cluster.nodes[lab["node"]].containers()
    assert (found["Labels"]["berth.allocation"], product) == (allocation, "42")


def test_a_stranger_finds_it_neither_in_the_portal_nor_at_a_gateway(
    cluster: Cluster, tokens: dict[str, str], lab: dict[str, Any]
):
    assert api_of(cluster, tokens["charlie"]).call("GET", f"workspaces/{lab['id']}")[0] == 404
    assert opened(cluster, tokens["charlie"], lab["id"]) == 404
    assert opened(cluster, "berth_wrong", lab["id"]) == 401
    assert opened(cluster, tokens["alice"], lab["id"]) == 200


def test_a_gateway_that_is_killed_costs_no_workspace(cluster: Cluster, tokens: dict[str, str], lab: dict[str, Any]):
    for gateway in cluster.gateways:
        wait_for(lambda: gateway_knows(cluster, tokens["alice"], lab["id"]), seconds=60, what="both gateways")
        gateway.kill()
        for _ in range(4):
            assert opened(cluster, tokens["alice"], lab["id"]) == 200
        gateway.start()
    wait_for(lambda: gateway_knows(cluster, tokens["alice"], lab["id"]), seconds=60, what="both gateways")


def as_a_browser_looks_names_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends in .localhost is this machine; Python leaves that to a resolver, which may not know."""
    look_up = socket.getaddrinfo

    def patched(host: Any, *more: Any, **named: Any) -> Any:
        return look_up("127.0.0.1" if str(host).endswith(".localhost") else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", patched)


def gateway_knows(cluster: Cluster, token: str, workspace: str) -> bool:
    """Whether each gateway by itself leads there: an agent's lines to it are up again."""
    doors = [f"http://127.0.0.1:{port}" for port in cluster.gateway_ports]
    return all(opened(cluster, token, workspace, door=door) == 200 for door in doors)


def opened(cluster: Cluster, token: str, workspace: str, *, door: str = "") -> int:
    """The status with which the workspace's server, or whoever is before it, answers a program; 0: nobody."""
    request = urllib.request.Request(
        f"{door or cluster.gateway_url}/w/{workspace}/api/status", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20, context=cluster.trust) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
