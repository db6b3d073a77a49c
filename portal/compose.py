"""Where the parts are put together: the sole reader of settings, run once at the start of every process.

Long because no other file may know all parts.
"""

import hmac
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from celery import Celery
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import DatabaseError, close_old_connections

from portal.kernel import clock
from portal.kernel.env import BadSetting
from portal.outages import outage
from scheduling import enrolment, loop, observed
from scheduling import wiring as scheduling_wiring
from scheduling.core.policy import Policy
from scheduling.models import Allocation, Node
from scheduling.nodes import gpus
from scheduling.nodes.agent import Agent
from scheduling.nodes.driver import Driver
from scheduling.nodes.engine.answers import engine_answers
from scheduling.nodes.exchange import Desired, InProcessExchange, Report
from scheduling.nodes.forward import NodesForwarder
from scheduling.nodes.parking import Parking
from tenants.models import User
from workspaces import lab
from workspaces import wiring as workspaces_wiring
from workspaces.gateway.app import Gateway
from workspaces.gateway.loading import Database, revocations
from workspaces.gateway.routes import Rights
from workspaces.images import ship_catalogue
from workspaces.selectors import open_routes

if TYPE_CHECKING:
    from portal.node_broker import NodeBroker

log = logging.getLogger("berth.compose")

#: the one node of the one-process mode; not the host name, which may change under a running workspace
LOCAL_NODE = "local"


class CannotStart(Exception):
    """The portal cannot be put together as it is set up; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where this portal lives."""

    data: Path
    host: str
    port: int
    gateway_port: int
    url: str
    admin_password: str


def place() -> Place:
    return Place(
        data=settings.BERTH_DATA,
        host=settings.BERTH_HOST,
        port=settings.BERTH_PORT,
        gateway_port=settings.BERTH_GATEWAY_PORT,
        url=settings.BERTH_PORTAL_URL,
        admin_password=settings.BERTH_ADMIN_PASSWORD,
    )


# -- handed down ------------------------------------------------------------------------------------------------------
_agents: dict[str, Agent] = {}


def wire() -> None:
    """Hand every app what it needs. Called when Django is ready, in every process; touches no database."""
    scheduling_wiring.use(
        scheduling_wiring.Wiring(
            policy=live_policy(),
            hint_tick=loop.hint,
            wake_node=_wake_node,
            server_token=partial(_server_token, settings.SECRET_KEY.encode()),
            lease_s=int(settings.BERTH_NODE_LEASE.total_seconds()),
            gateways=settings.BERTH_GATEWAY_ADDRESSES,
            broker_for=_broker_for,
            cut_broker=_cut_broker,
            only_person=_only_person_of_processes,
        )
    )
    workspaces_wiring.use(
        workspaces_wiring.Wiring(
            limit=settings.BERTH_NOTEBOOK_LIMIT,
            command=lab.command,
            browser_origin=_browser_origin,
            gateway_url=settings.BERTH_GATEWAY_URL,
            only_person=_only_person,
            notice=_reached_by_address_notice(),
        )
    )


def live_policy() -> Policy:
    """The policy of the live loop: the file's, with the time-outs of the settings. Raises BadSetting."""
    # Where nobody has written a policy there is often one machine, and work without GPUs has nowhere else to go.
    chosen = Policy(cpu_kept_percent=0)
    if settings.BERTH_POLICY_FILE:
        from scheduling.simulator.files.policy_file import read_policy  # a portal without such a file needs no YAML
        from scheduling.simulator.files.reading import BadFile

        try:
            chosen = read_policy(Path(settings.BERTH_POLICY_FILE).expanduser())
        except BadFile as why:
            raise BadSetting(f"BERTH_POLICY_FILE: {why}.") from why
    return replace(
        chosen,
        place_timeout_s=int(settings.BERTH_PLACE_TIMEOUT.total_seconds()),
        start_timeout_s=int(settings.BERTH_START_TIMEOUT.total_seconds()),
        # No driver can suspend a container or cut a card yet, and `enact` refuses a plan that asks for it. Whoever
        # teaches a driver one of these switches it on here, and nowhere else.
        suspend=False,
        keeps_work=False,
        recut=False,
    )


def _wake_node(name: str) -> None:
    if agent := _agents.get(name):
        agent.wake()
    elif broker := _node_broker():
        broker.wake(name)


@cache
def _node_broker() -> "NodeBroker | None":
    if not settings.BERTH_NODE_REDIS_URL:
        return None
    from portal.node_broker import NodeBroker  # a portal without Redis does not need its client

    return NodeBroker(
        admin_url=settings.BERTH_REDIS_URL,
        node_url=settings.BERTH_NODE_REDIS_URL,
        secret=settings.SECRET_KEY.encode(),
        app=celery_app,
    )


def _broker_for(node: str, epoch: int) -> str:
    broker = _node_broker()
    return broker.grant(node, epoch) if broker else ""


def _cut_broker(node: str) -> None:
    if broker := _node_broker():
        broker.cut(node)


def _server_token(key: bytes, allocation: int) -> str:
    """The secret of the server in one allocation's container: derived, so that it is stored nowhere."""
    return hmac.new(key, f"server of allocation {allocation}".encode(), "sha256").hexdigest()


def _browser_origin(workspace_id: str) -> str:
    scheme, rest = settings.BERTH_GATEWAY_URL.split("://", 1)
    return f"{scheme}://w-{workspace_id}.{rest}"


def _only_person() -> str:
    """Whom alone workspaces serve: the first account, where nothing keeps two people's workspaces apart."""
    return _first_person() if _reached_by_address_notice() else _only_person_of_processes()


def _only_person_of_processes() -> str:
    """The same of jobs, which nobody opens: host names are nothing to them."""
    return _first_person() if Node.objects.filter(driver="process").exists() else ""


def _first_person() -> str:
    return User.objects.filter(is_active=True).order_by("id").values_list("username", flat=True).first() or ""


def _reached_by_address_notice() -> str:
    """A bare address has no sub-domains, so workspaces cannot have host names of their own there."""
    loopback = settings.BERTH_HOST in ("127.0.0.1", "::1", "localhost")
    if loopback or settings.BERTH_WORKSPACE_DOMAIN != "localhost":
        return ""
    return (
        "BERTH_WORKSPACE_DOMAIN is not set, so workspaces have no host names of their own. Set it to a domain whose "
        "sub-domains lead here."
    )


# -- parts of a process -----------------------------------------------------------------------------------------------
def find_servers() -> None:
    """CannotStart unless the database and the broker that the settings name answer; the built-in ones always do."""
    if not settings.BERTH_DATABASE_URL and not settings.BERTH_REDIS_URL:
        return
    from portal import servers  # the two clients cost 25 MB that a portal with the built-in ones does not need

    for url, trouble in (
        (settings.BERTH_DATABASE_URL, servers.database_trouble),
        (settings.BERTH_REDIS_URL, servers.broker_trouble),
    ):
        if url and (sentence := trouble(url)):
            raise CannotStart(sentence)


def find_shared_servers() -> None:
    """As find_servers, for one process of several: what is built in lives and dies with the process that has it."""
    if not settings.BERTH_DATABASE_URL or not settings.BERTH_REDIS_URL:
        raise CannotStart(
            "Several processes share one PostgreSQL and one Redis: set BERTH_DATABASE_URL and BERTH_REDIS_URL, or use "
            "`manage.py up`, which is all of Berth in one process."
        )
    find_servers()


def begin() -> None:
    """Once per start, when the database is migrated."""
    ship_catalogue()


def celery_app() -> Celery:
    from portal.celery import app  # reads the settings, so not before Django is set up

    return app


def web_app() -> Any:
    from portal.asgi import application  # sets Django up on import

    return application


def gateway_app(nodes_here: Mapping[str, Callable[[str], tuple[str, int] | None]]) -> Gateway:
    """A gateway; workspaces.gateway.server.OPTIONS says how to serve it. nodes_here: those whose agent is in this very
    process, by name, and how to ask it for a container's address."""
    database = Database(open_routes=open_routes, node_of_key=enrolment.node_of_key)
    parking = Parking(node_of=database.node_of)
    address = urlsplit(settings.BERTH_GATEWAY_URL)
    return Gateway(
        rights=Rights(load=database.table, events=lambda: revocations(get_channel_layer())),
        forwarder=NodesForwarder(here=nodes_here, far=parking),
        parking=parking,
        redeem=database.redeem,
        portal_origin=settings.BERTH_PORTAL_URL,
        domain=address.hostname or settings.BERTH_WORKSPACE_DOMAIN,
        gateway_port=address.port or (443 if address.scheme == "https" else 80),
        scheme=address.scheme,
    )


@cache
def local_agent() -> Agent:
    """The agent of this machine, with the driver that the settings and the machine allow."""
    driver = _local_driver()
    agent = Agent(node=LOCAL_NODE, driver=driver, exchange=InProcessExchange(_exchange))
    _agents[LOCAL_NODE] = agent
    return agent


def _exchange(report: Report) -> Desired:
    """The in-process twin of the exchange: as over HTTPS, a control plane in trouble is a ConnectionError."""
    close_old_connections()
    try:
        return observed.exchange(report, now=clock.now())
    except DatabaseError as error:
        if not (sentence := outage(error)):
            raise
        raise ConnectionError(f"{error}. {sentence}") from error


def site_id(data: Path) -> str:
    """A random name of this installation, so that its containers are told from those of another on the same engine."""
    path = data / "site_id"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(uuid.uuid4().hex[:12])
    return path.read_text().strip()


def _local_driver() -> Driver:
    data: Path = settings.BERTH_DATA
    site = site_id(data)
    cards = gpus.detect(simulated=settings.BERTH_SIMULATED_GPUS, site=site)
    base_url = settings.BERTH_DOCKER_HOST or os.environ.get("DOCKER_HOST") or None
    kind = _driver_kind(base_url)
    # Imported here, not above: the docker SDK costs 20 MB that a portal without Docker does not need.
    if kind == "docker":
        from scheduling.nodes.docker import DockerDriver

        return DockerDriver(
            base_url=base_url, data=data, site=site, gpus=cards, open_networks=settings.BERTH_OPEN_NETWORKS
        )
    from scheduling.nodes.process import ProcessDriver

    return ProcessDriver(data=data, site=site, gpus=cards, lab_python=settings.BERTH_LAB_PYTHON)


def _driver_kind(base_url: str | None) -> str:
    """docker where an engine answers, else process; but never away from a driver that still has work here."""
    wanted: str = settings.BERTH_DRIVER
    held = Allocation.objects.filter(released_at__isnull=True, node__name=LOCAL_NODE)
    before = held.values_list("node__driver", flat=True).first()
    if wanted == "auto" and before:
        wanted = before
    elif wanted == "auto":
        why_not = engine_answers(base_url)
        wanted = "process" if why_not else "docker"
        if why_not:
            log.info("workspaces do not run in Docker: %s", why_not)
    if before and before != wanted:
        raise CannotStart(
            f"Workspaces of the {before} driver have not been seen gone yet; start once with BERTH_DRIVER={before} "
            f"and stop them, then change to {wanted}."
        )
    if wanted == "docker" and not before and (why := engine_answers(base_url)):
        raise CannotStart(f"BERTH_DRIVER is docker, which cannot be: {why} Or set BERTH_DRIVER to auto or process.")
    return wanted
