"""A running cluster: what it consists of, and what may be asked of it (starting.py makes one).

The control plane is on this machine: PostgreSQL, Redis, nginx, two of each process. Every node is a network namespace
with a Docker Engine of its own and a real `berth-agent` that has joined with a one-time token.
"""

import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.agent_process import AgentProcess
from tests.certificates import Certificate
from tests.cluster import servers
from tests.cluster.network import Network
from tests.cluster.parts import Part
from tests.docker_engine import PrivateEngine
from tests.portal_process import ROOT
from tests.services import free_port, wait_for

PORT = 8443
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
        try:
            wait_for(lambda: self.gpus() == wanted, seconds=120, what="the nodes to report")
        except AssertionError as error:
            said = "\n".join(f"{node.name}: {node.agent.output()[-500:]}" for node in self.nodes.values())
            raise AssertionError(f"{error}\n{said}") from None

    def gpus(self) -> dict[str, int]:
        """Node -> how many GPUs it has told of."""
        found = "SELECT n.name, count(g.id) FROM scheduling_node n LEFT JOIN scheduling_gpu g ON g.node_id = n.id "
        return {name: int(count) for name, count in self.query(f"{found} GROUP BY n.name")}


def answers(port: int, path: str) -> bool:
    """Whether a process of the control plane that listens at this port of this machine says 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
