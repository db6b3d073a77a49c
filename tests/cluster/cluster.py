"""The cluster itself: what it consists of, how it starts, and that nothing of it stays.

The control plane is on this machine: PostgreSQL, Redis, nginx, two of each process. Every node is a network namespace
with a Docker Engine of its own and a real `berth-agent` that has joined with a one-time token.
"""

import json
import os
import secrets
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from deploy.image.build import build
from tests.agent_process import AgentProcess
from tests.certificates import Certificate, make_certificate
from tests.cluster import leftovers, servers
from tests.cluster.network import INTERNET, METADATA, WORLD_PORT, CannotRun, Network
from tests.cluster.parts import Part
from tests.docker_engine import PrivateEngine, make_tiny_image, private_engine
from tests.portal_process import ROOT
from tests.services import free_port, wait_for

PORT = 8443
DOMAIN = "berth.localhost"  # browsers look up whatever ends in .localhost themselves
CELERY = (sys.executable, "-m", "celery", "-A", "portal.celery")
TOKENS = """
import json
from portal.kernel import clock
from scheduling import enrolment
now = clock.now()
print(json.dumps({{name: enrolment.create_join_token(name=name, pool="", simulated=0, now=now) for name in {names}}}))
"""


@dataclass
class ClusterNode:
    """`gpus`: how many are simulated. `address`: where a service of the node itself would be reached."""

    name: str
    address: str
    gpus: int
    engine: PrivateEngine
    agent: AgentProcess

    def start_agent(self, *join: str) -> None:
        self.agent.start(*join, "--docker-host", self.engine.url, "--simulated-gpus", str(self.gpus))

    def containers(self) -> list[dict[str, Any]]:
        """Those of Berth that the engine shows, ended ones included."""
        client = self.engine.client()
        try:
            found: list[dict[str, Any]] = client.containers(all=True, filters={"label": "berth.allocation"})
            return found
        finally:
            client.close()

    def inside(self, allocation: int | str, script: str) -> tuple[int, str]:
        """Run a script in a container as its user; exit code and what it printed."""
        client = self.engine.client()
        try:
            (found,) = client.containers(filters={"label": f"berth.allocation={allocation}"})
            made = client.exec_create(found["Id"], ["sh", "-c", script])
            output = client.exec_start(made["Id"])
            return client.exec_inspect(made["Id"])["ExitCode"], output.decode(errors="replace")
        finally:
            client.close()


@dataclass
class Cluster:
    """A running one. `environment`: the settings that all processes of its control plane share."""

    folder: Path
    network: Network
    tls: Certificate
    postgres: servers.Postgres
    redis: servers.Redis
    password: str
    gateway_port: int
    environment: dict[str, str]
    proxy: Part | None = None
    webs: list[Part] = field(default_factory=list)
    gateways: list[Part] = field(default_factory=list)
    workers: list[Part] = field(default_factory=list)
    beats: list[Part] = field(default_factory=list)
    nodes: dict[str, ClusterNode] = field(default_factory=dict)
    web_ports: Sequence[int] = ()
    gateway_ports: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.environment["BERTH_PORTAL_URL"]

    @property
    def gateway_url(self) -> str:
        """For programs, which do not look up names below localhost themselves."""
        return f"https://{self.network.control}:{self.gateway_port}"

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.tls.certificate))

    @property
    def parts(self) -> list[Part]:
        return [*self.webs, *self.gateways, *self.workers, *self.beats]

    def manage(self, *arguments: str) -> str:
        """A management command on the control plane; answers what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self._variables(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def shell(self, code: str) -> str:
        return self.manage("shell", "--no-imports", "-c", code)

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Straight from the database: a management command would take a second of CPU for each look."""
        with psycopg.connect(self.postgres.socket_url) as connection:
            return connection.execute(sql, values).fetchall()  # type: ignore[arg-type]

    def states(self) -> dict[str, str]:
        return dict(self.query("SELECT name, state FROM scheduling_node"))

    def _variables(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("BERTH_", "DJANGO_"))}
        return {**kept, **self.environment, "CELERY_SKIP_CHECKS": "1"}

    # -- starting -------------------------------------------------------------------------------------------------
    def start_control(self, detours: Mapping[str, int]) -> None:
        """Two of each process of the portal, behind the proxy. detours: as in servers.proxy."""
        manage = [sys.executable, "manage.py"]
        quiet = ["--without-heartbeat", "--without-mingle", "--without-gossip"]
        for number in (1, 2):
            web, gateway = self.web_ports[number - 1], free_port()
            self.gateway_ports.append(gateway)
            beat = ["beat", "--scheduler", "celery.beat:Scheduler", "--max-interval", "1", "--pidfile="]
            worker = ["worker", "--pool", "threads", "--concurrency", "2", "-n", f"worker{number}@cluster", *quiet]
            self.webs.append(self._part(f"web{number}", [*manage, "web"], BERTH_PORT=str(web)))
            self.gateways.append(self._part(f"gateway{number}", [*manage, "gateway"], BERTH_GATEWAY_PORT=str(gateway)))
            self.workers.append(self._part(f"worker{number}", [*CELERY, *worker]))
            self.beats.append(self._part(f"beat{number}", [*CELERY, *beat]))
        for part in self.parts:
            part.start()
        control = self.network.control
        own = [int(address.rpartition(":")[2]) for address in self.environment["BERTH_GATEWAY_ADDRESSES"].split(",")]
        doors: dict[tuple[str, ...], Sequence[int]] = {
            (f"{control}:{PORT}",): self.web_ports,
            (f"{control}:{self.gateway_port}", f"127.0.0.1:{self.gateway_port}"): self.gateway_ports,
            **{(f"{control}:{port}",): [behind] for port, behind in zip(own, self.gateway_ports, strict=True)},
        }
        self.proxy = servers.proxy(self.folder / "proxy", tls=self.tls, doors=doors, detours=detours)
        for part, port in zip(self.webs, self.web_ports, strict=True):
            wait_for(lambda p=part, n=port: p.alive() and answers(n, "/healthz"), seconds=180, what=part.name)
        for part, port in zip(self.gateways, self.gateway_ports, strict=True):
            wait_for(lambda p=part, n=port: p.alive() and answers(n, "/.berth/healthz"), seconds=180, what=part.name)

    def _part(self, name: str, argv: list[str], **more: str) -> Part:
        return Part(name, argv, log=self.folder / f"{name}.log", variables={**self._variables(), **more})

    def join(self) -> None:
        """Every agent joins with a token of its own, and the portal has heard of its GPUs."""
        tokens = json.loads(self.shell(TOKENS.format(names=list(self.nodes))))
        for node in self.nodes.values():
            node.start_agent("--join", self.url, tokens[node.name], "--ca", str(self.tls.certificate))
        wanted = {node.name: node.gpus for node in self.nodes.values()}
        wait_for(lambda: self.gpus() == wanted, seconds=120, what=f"the nodes to report:\n{self._agents_say()}")

    def gpus(self) -> dict[str, int]:
        """Node -> how many GPUs it has told of."""
        found = "SELECT n.name, count(g.id) FROM scheduling_node n LEFT JOIN scheduling_gpu g ON g.node_id = n.id "
        return {name: int(count) for name, count in self.query(f"{found} GROUP BY n.name")}

    def _agents_say(self) -> str:
        return "\n".join(f"{node.name}: {node.agent.output()[-500:]}" for node in self.nodes.values())


def answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


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

    gpus: simulated, per node. lab: every engine gets JupyterLab's image, and in any case the tiny one. web_ports: where the
    two web processes listen, free ones by default. detours: paths of the portal -> ports of this machine that have them instead. settings: more of the portal's, as BERTH_NODE_LEASE.
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
