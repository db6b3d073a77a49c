"""From nothing to a cluster and back to nothing: what is started in which order, and that none of it stays."""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from deploy.image.build import build
from tests.agent_process import AgentProcess
from tests.certificates import Certificate, make_certificate
from tests.cluster import leftovers, servers
from tests.cluster.cluster import PORT, Cluster, ClusterNode
from tests.cluster.network import INTERNET, METADATA, WORLD_PORT, CannotRun, Network
from tests.cluster.parts import Part
from tests.docker_engine import PrivateEngine, make_tiny_image, private_engine
from tests.services import free_port, wait_for

DOMAIN = "berth.localhost"  # browsers look up whatever ends in .localhost themselves


@contextmanager
def running_cluster(
    *,
    nodes: int = 3,
    gpus: int = 2,
    lab: bool = True,
    web_ports: Sequence[int] = (),
    detours: Mapping[str, int] | None = None,
    say: Callable[[str], None] = print,
    **settings: str,
) -> Iterator[Cluster]:
    """A cluster that is ready. Afterwards nothing of it is left, or AssertionError says what is. Raises CannotRun.

    gpus: simulated, per node. lab: every engine gets JupyterLab's image, and in any case the tiny one. web_ports: where
    the two web processes listen, free ones by default. detours: paths of the portal -> ports of this machine that have
    them instead. settings: more of the portal's, as BERTH_NODE_LEASE.
    """
    if os.geteuid() != 0:
        raise CannotRun("A cluster needs root: it makes network namespaces and starts Docker Engines.")
    leftovers.clear_the_dead()
    folder = leftovers.folder_of_this_process()
    network = Network([f"n{number}" for number in range(1, nodes + 1)])
    try:
        with ExitStack() as ours:
            yield _start(
                ours,
                folder,
                network,
                gpus=gpus,
                lab=lab,
                web_ports=web_ports,
                detours=detours or {},
                say=say,
                settings=settings,
            )
            say("Stopping…")
    finally:
        leftovers.clear(folder, tag=network.tag)
    left = leftovers.left(folder, tag=network.tag)
    assert not left, f"the cluster left behind: {left}"


def _start(
    ours: ExitStack,
    folder: Path,
    network: Network,
    *,
    gpus: int,
    lab: bool,
    web_ports: Sequence[int],
    detours: Mapping[str, int],
    say: Callable[[str], None],
    settings: Any,
) -> Cluster:
    say("Laying cables…")
    network.up()
    tls = make_certificate(folder, "localhost", DOMAIN, f"*.{DOMAIN}", "127.0.0.1", network.control)
    with ThreadPoolExecutor(max_workers=max(2, len(network.nodes))) as pool:
        say("Starting a Docker Engine on each node…")
        engines = {name: pool.submit(_engine, ours, folder, network, name, lab=lab) for name in network.nodes}
        say("Starting PostgreSQL and Redis, bringing the database up to date…")
        cluster = _control(ours, folder, network, tls, settings)
        cluster.manage("prepare")
        say("Starting web, gateways and workers…")
        cluster.web_ports = web_ports or (free_port(), free_port())
        cluster.start_control(detours)
        for name, started in engines.items():
            agent = AgentProcess(folder / name / "state", folder / name / "log", enter=network.enter(name))
            cluster.nodes[name] = ClusterNode(name, network.nodes[name], gpus, started.result(), agent)
    ours.callback(lambda: _stop_all(cluster))  # the first to be called: engines and servers end after it
    _world(ours, folder, network)
    if lab:
        say("Handing JupyterLab's image to each engine…")
        for node in cluster.nodes.values():
            build(base_url=node.engine.url)
    say("Joining the nodes…")
    cluster.join()
    return cluster


def _engine(ours: ExitStack, folder: Path, network: Network, name: str, *, lab: bool) -> PrivateEngine:
    within = folder / name
    within.mkdir()
    size = 4096 if lab else 512
    engine = ours.enter_context(private_engine(disk_mib=size, enter=network.enter(name), within=within))
    make_tiny_image(engine.client())
    return engine


def _control(ours: ExitStack, folder: Path, network: Network, tls: Certificate, settings: Any) -> Cluster:
    database = servers.postgres(folder / "postgres", address=network.control, network=network.range, tls=tls)
    ours.callback(database.part.stop, servers.STOP_POSTGRES)
    broker = servers.redis_server(folder / "redis", address=network.control, tls=tls)
    ours.callback(broker.part.stop)
    gateway_port, password = free_port(), secrets.token_urlsafe(12)
    own = [free_port(network.control) for _ in range(2)]
    return Cluster(
        folder=folder,
        network=network,
        tls=tls,
        postgres=database,
        redis=broker,
        password=password,
        gateway_port=gateway_port,
        environment={
            "BERTH_DATA": str(folder / "data"),
            "BERTH_ADMIN_PASSWORD": password,
            "BERTH_PORTAL_URL": f"https://{network.control}:{PORT}",
            "BERTH_WORKSPACE_DOMAIN": DOMAIN,
            "BERTH_GATEWAY_URL": f"https://{DOMAIN}:{gateway_port}",
            "BERTH_GATEWAY_ADDRESSES": ",".join(f"https://{network.control}:{port}" for port in own),
            "BERTH_DATABASE_URL": database.url,
            "BERTH_REDIS_URL": broker.url,
            "BERTH_NODE_REDIS_URL": broker.node_url,
            "BERTH_DRIVER": "docker",
            **settings,
        },
    )


def _stop_all(cluster: Cluster) -> None:
    """Agents first, so that they say nothing of a portal that is away; then whatever leads in, then the rest."""
    for node in cluster.nodes.values():
        if node.agent.process is not None and node.agent.process.poll() is None:
            node.agent.process.terminate()
    for node in cluster.nodes.values():
        if node.agent.process is not None:
            node.agent.process.wait(timeout=30)
    for part in [*([cluster.proxy] if cluster.proxy else []), *cluster.beats, *cluster.workers, *cluster.webs]:
        part.stop()
    for part in cluster.gateways:
        part.stop()


def _world(ours: ExitStack, folder: Path, network: Network) -> None:
    """A server in the internet and a cloud's metadata, so that what is closed to containers is there."""
    root = folder / "world"
    root.mkdir()
    (root / "index.html").write_text("reached\n")
    serve = ["busybox", "httpd", "-f", "-p", str(WORLD_PORT), "-h", root]
    server = Part("world", [*network.enter("world"), *serve], log=folder / "world.log")
    server.start()
    ours.callback(server.kill)
    node = next(iter(network.nodes))
    for address in (INTERNET, METADATA):
        wait_for(lambda a=address: network.reaches(node, a, WORLD_PORT), seconds=20, what=f"{address} beyond the nodes")
