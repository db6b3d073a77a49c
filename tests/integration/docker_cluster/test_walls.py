"""What a container of a cluster reaches, found out by trying from inside it. Every "cannot" is first shown to be there:
the node itself, on whose side of the wall the container is not, gets an answer."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.cluster.cluster import Cluster, ClusterNode
from tests.cluster.network import INTERNET, METADATA, WORLD_PORT
from tests.cluster.parts import Part
from tests.cluster.work import SERVE, Ask, Running, cancel, containers, submit, until
from tests.services import wait_for

pytestmark = pytest.mark.docker

LOOKED_AFTER_S = 7  # within so long an agent has looked at its walls
SERVICE = 8099  # of each node itself, on all its addresses, as a careless administrator might leave one open


@dataclass
class Neighbours:
    """A container of team red and one of team blue on one node, and one of team blue on another."""

    node: ClusterNode
    red: Running
    blue: Running
    far: Running


@pytest.fixture(scope="module")
def neighbours(cluster: Cluster, tokens: dict[str, str]) -> Iterator[Neighbours]:
    services = []
    for node in cluster.nodes.values():
        argv = [*cluster.network.enter(node.name), "busybox", "httpd", "-f", "-p", str(SERVICE), "-h", "/"]
        services.append(Part(f"{node.name}'s service", argv, log=cluster.folder / "services.log"))
        services[-1].start()
    red = submit(cluster, *[Ask(f"red{number}", team="red", script=SERVE, port=8888) for number in range(3)])
    until(cluster, red, "running")
    blue = submit(cluster, *[Ask(f"blue{number}", team="blue", script=SERVE, port=8888) for number in range(3)])
    until(cluster, blue, "running")
    reds, blues = containers(cluster, red), containers(cluster, blue)
    # Three of each on three nodes for two: one node at least has one of each.
    pair = next((r, b) for r in reds for b in blues if r.node == b.node)
    far = next(b for b in blues if b.node != pair[0].node)
    yield Neighbours(cluster.nodes[pair[0].node], *pair, far)
    cancel(cluster, *red, *blue)
    for service in services:
        service.kill()


def test_the_internet_answers_a_container(cluster: Cluster, neighbours: Neighbours):
    assert reaches(neighbours.node, neighbours.red, INTERNET, WORLD_PORT)
    assert reaches(cluster.nodes[neighbours.far.node], neighbours.far, INTERNET, WORLD_PORT)


def test_another_teams_container_does_not(cluster: Cluster, neighbours: Neighbours):
    refused(cluster, neighbours, [(address_of(neighbours.node, neighbours.blue), 8888)])


def test_no_gateway_address_of_a_bridge_does(cluster: Cluster, neighbours: Neighbours):
    own, others = (bridge_of(neighbours.node, one) for one in (neighbours.red, neighbours.blue))
    assert own != others
    refused(cluster, neighbours, [(own, SERVICE), (others, SERVICE)])


def test_no_node_does(cluster: Cluster, neighbours: Neighbours):
    refused(cluster, neighbours, [(node.address, SERVICE) for node in cluster.nodes.values()])


def test_neither_the_portal_nor_a_gateway_nor_the_database_nor_the_broker_does(
    cluster: Cluster, neighbours: Neighbours
):
    lines = [int(one.rpartition(":")[2]) for one in cluster.environment["BERTH_GATEWAY_ADDRESSES"].split(",")]
    ports = [8443, cluster.gateway_port, *lines, cluster.postgres.port, cluster.redis.port]
    refused(cluster, neighbours, [(cluster.network.control, port) for port in ports])


def test_no_metadata_of_a_cloud_does(cluster: Cluster, neighbours: Neighbours):
    refused(cluster, neighbours, [(METADATA, WORLD_PORT)])


def test_the_host_of_the_control_plane_is_no_way_around_into_a_container(cluster: Cluster, neighbours: Neighbours):
    """Nothing is published: who is outside the node has no route to a container, not even by way of the node."""
    address = address_of(neighbours.node, neighbours.red)
    assert cluster.network.reaches(neighbours.node.name, address, 8888)
    for name in (*(node for node in cluster.nodes if node != neighbours.node.name), "world"):
        assert not cluster.network.reaches(name, neighbours.node.address, 8888)


def test_a_restarted_agent_finds_the_walls_of_its_own_node_and_teammates_still_meet(
    cluster: Cluster, neighbours: Neighbours
):
    """It reads which bridges there are in the node's network namespace, whatever its /sys shows."""
    node = neighbours.node
    others = [name for name in cluster.nodes if name != node.name]
    with cordoned(cluster, others):
        (mate,) = submit(cluster, Ask("mate", team="red", script=SERVE, port=8888, gpus=0))
        until(cluster, [mate], "running")
    (here,) = containers(cluster, [mate])
    assert here.node == node.name
    node.agent.stop()
    node.start_agent()
    wait_for(lambda: node.agent.output().count("speaking for") >= 2, seconds=30, what="the agent to be back")
    time.sleep(LOOKED_AFTER_S)
    assert reaches(node, neighbours.red, address_of(node, here), 8888)
    refused(cluster, neighbours, [(address_of(node, neighbours.blue), 8888), (node.address, SERVICE)])
    cancel(cluster, mate)


@contextmanager
def cordoned(cluster: Cluster, names: list[str]) -> Iterator[None]:
    """So that what is submitted goes elsewhere."""
    code = "from scheduling.models import Node; Node.objects.filter(name__in={names}).update(state='{state}')"
    cluster.shell(code.format(names=names, state="cordoned"))
    yield
    cluster.shell(code.format(names=names, state="ready"))


def refused(cluster: Cluster, neighbours: Neighbours, targets: list[tuple[str, int]]) -> None:
    """None answers red's container within 2 s, and each answers its node at the same moment."""
    node = neighbours.node
    for target in targets:
        wait_for(
            lambda t=target: cluster.network.reaches(node.name, *t), seconds=10, what=f"{target}, open to the node"
        )
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda target: reaches(node, neighbours.red, *target), targets))
    assert [target for target, answer in zip(targets, answers, strict=True) if answer] == []


def reaches(node: ClusterNode, container: Running, address: str, port: int) -> bool:
    code, _ = node.inside(container.allocation, f"timeout 4 nc -w 2 {address} {port} </dev/null")
    return code == 0


def address_of(node: ClusterNode, container: Running) -> str:
    return str(_network(node, container)["IPAddress"])


def bridge_of(node: ClusterNode, container: Running) -> str:
    """The node's own address on the container's bridge."""
    return str(_network(node, container)["Gateway"])


def _network(node: ClusterNode, container: Running) -> dict[str, str]:
    (found,) = [one for one in node.containers() if one["Labels"]["berth.allocation"] == str(container.allocation)]
    (network,) = found["NetworkSettings"]["Networks"].values()
    return dict(network)
