"""The data path of a cluster: a gateway with TLS, an agent's lines to it, and a server that only the agent can dial."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest
import uvicorn
import uvloop

from scheduling.nodes import parking as parking_module
from scheduling.nodes.forward import NodesForwarder, NotReachable
from scheduling.nodes.lines import Lines, Seat
from scheduling.nodes.parking import Parking
from tests.certificates import Certificate, make_certificate
from tests.integration.gateway_process import SERVER_TOKEN
from tests.integration.gateway_world import PORTAL, Behind, Running, ok, server_behind
from tests.services import wait_for
from workspaces.gateway.app import Gateway
from workspaces.gateway.routes import Key, Rights, Route, Table, token_key
from workspaces.gateway.server import OPTIONS

TOKEN = "berth_a-good-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Site:
    """One gateway, for clients on a plain port and for agents on one with TLS.

    `keys`: which node each key speaks for. `here`: where the agent's allocations listen.
    """

    plain: Running
    secret: Running
    parking: Parking
    tls: Certificate
    keys: dict[str, str] = field(default_factory=lambda: {"node_good": "far"})
    here: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"https://localhost:{self.secret.port}"

    @contextlib.contextmanager
    def agent(self, *, node: str = "far", key: str = "node_good", idle: int = 3) -> Iterator[Lines]:
        lines = Lines(ca_file=self.tls.certificate, idle=idle)
        lines.start()
        lines.use(Seat(node=node, key=key, lookup=self.here.get), (self.address,))
        try:
            yield lines
        finally:
            lines.stop()

    def wait_parked(self, count: int, node: str = "far") -> None:
        wait_for(lambda: self.parking.parked(node) == count, seconds=10, what=f"{count} parked lines")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    certificate = make_certificate(tmp_path)
    keys = {token_key(sha256(TOKEN.encode()).hexdigest()): Key(user=1)}

    async def load() -> Table:
        return Table(routes={"one": Route("one", 1, "far", "a1", SERVER_TOKEN)}, keys=keys)

    async def no_ticket(ticket: str, workspace: str) -> tuple[str, int] | None:
        return None

    found: list[Site] = []

    async def node_of(key: str) -> str | None:
        return found[0].keys.get(key)

    parking = Parking(node_of=node_of)
    plain, secret = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    gateway = Gateway(
        rights=Rights(load=load),
        forwarder=NodesForwarder(here={}, far=parking),
        redeem=no_ticket,
        portal_origin=PORTAL,
        domain="localhost",
        gateway_port=plain.getsockname()[1],
        parking=parking,
    )
    settings = {"log_config": None, "timeout_graceful_shutdown": 1, **OPTIONS}
    servers = [
        uvicorn.Server(uvicorn.Config(gateway, **settings)),  # type: ignore[arg-type]
        uvicorn.Server(
            uvicorn.Config(
                gateway, **{**settings, "lifespan": "off"},
                ssl_certfile=str(certificate.certificate), ssl_keyfile=str(certificate.key),
            )  # type: ignore[arg-type]
        ),
    ]  # fmt: skip
    loop = uvloop.new_event_loop()

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            for server, sock in zip(servers, (plain, secret), strict=True):
                group.create_task(server._serve([sock]))

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    try:
        wait_for(lambda: all(server.started for server in servers), seconds=10, what="the gateway")
        ports = [Running(port=sock.getsockname()[1], gateway=gateway, loop=loop) for sock in (plain, secret)]
        found.append(Site(plain=ports[0], secret=ports[1], parking=parking, tls=certificate))
        yield found[0]
    finally:
        for server in servers:
            server.should_exit = True
        thread.join(15)
        loop.close()


@pytest.fixture
def behind(site: Site) -> Iterator[Behind]:
    with server_behind() as server:
        site.here["a1"] = ("127.0.0.1", server.port)
        yield server


def get(site: Site, path: str, **more):
    return site.plain.ask(f"/w/one{path}", headers=BEARER, **more)


def test_requests_go_through_the_lines_and_lines_are_replaced(site: Site, behind: Behind):
    with site.agent():
        site.wait_parked(3)
        for number in range(10):
            behind.says[b"/n"] = ok(b"%d" % number, b"Connection: close")
            assert get(site, "/n").body == b"%d" % number
        site.wait_parked(3)
    assert behind.connections == 10


def test_a_kept_connection_carries_many_requests_on_one_line(site: Site, behind: Behind):
    with site.agent():
        site.wait_parked(3)
        assert [get(site, "/").body for _ in range(20)] == [b"hello"] * 20
    assert behind.connections == 1


def test_more_streams_at_once_than_lines_wait_for_their_turn(site: Site, behind: Behind):
    gate = threading.Barrier(12, timeout=10)

    def slow(handler) -> None:
        gate.wait()  # answers only when all twelve are here
        handler.wfile.write(ok(b"together", b"Connection: close"))

    behind.says[b"/slow"] = slow
    with site.agent(idle=2):
        site.wait_parked(2)
        said: list[bytes] = []
        threads = [threading.Thread(target=lambda: said.append(get(site, "/slow").body)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert said == [b"together"] * 12


def test_a_big_body_each_way_arrives_whole(site: Site, behind: Behind):
    body = bytes(range(256)) * 40_000  # 10 MB
    behind.says[b"/big"] = ok(body)
    with site.agent():
        site.wait_parked(3)
        reply = get(site, "/big", method="PUT", body=body)
        assert reply.body == body
    assert behind.seen[-1].body == body


def test_a_socket_goes_both_ways(site: Site):
    from websockets.sync.client import connect
    from websockets.sync.server import serve

    def echo(connection) -> None:
        for message in connection:
            connection.send(message[::-1])

    with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site.here["a1"] = server.socket.getsockname()[:2]
        with site.agent():
            site.wait_parked(3)
            port = site.plain.port
            with connect(
                f"ws://localhost:{port}/w/one/echo", additional_headers=BEARER, proxy=None, max_size=None
            ) as ws:
                for message in ("abc", "x" * 1_000_000):
                    ws.send(message)
                    assert ws.recv(timeout=20) == message[::-1]
        server.shutdown()


def test_an_allocation_that_is_not_the_agents_own_is_not_dialled(site: Site):
    with site.agent():
        site.wait_parked(3)
        reply = get(site, "/")
    assert reply.status == 502


def test_a_server_that_is_gone_is_told_at_once(site: Site):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        site.here["a1"] = closed.getsockname()[:2]
    with site.agent():
        site.wait_parked(3)
        dialled = asyncio.run_coroutine_threadsafe(site.parking.dial(node="far", allocation="a1"), site.plain.loop)
        with pytest.raises(NotReachable, match="does not accept connections"):
            dialled.result(10)
        assert get(site, "/").status == 502


def test_a_node_without_lines_is_unreachable_after_a_while_and_reached_once_they_come(site: Site, behind: Behind):
    assert get(site, "/").status == 502
    waiting: list[int] = []
    thread = threading.Thread(target=lambda: waiting.append(get(site, "/").status))
    thread.start()
    with site.agent():
        thread.join(10)
    assert waiting == [200]


def test_a_key_leads_to_its_own_node_only_and_a_bad_one_nowhere(site: Site, behind: Behind, caplog):
    site.keys["node_other"] = "other"
    with site.agent(node="far", key="node_other"):  # says it is "far", but its key is another's
        site.wait_parked(3, "other")
        assert site.parking.parked("far") == 0
        assert get(site, "/").status == 502
    with site.agent(key="node_bad"):
        wait_for(lambda: "401" in caplog.text, seconds=10, what="the refusal to be logged")
    assert site.parking.parked("far") == 0
    assert behind.connections == 0


def test_lines_of_a_key_that_counts_no_more_are_cut(site: Site, monkeypatch):
    monkeypatch.setattr(parking_module, "PING_S", 0.2)
    monkeypatch.setattr(parking_module, "TRUSTED_S", 0.1)
    with site.agent():
        site.wait_parked(3)
        time.sleep(1)
        assert site.parking.parked("far") == 3
        site.keys.clear()
        site.wait_parked(0)


def test_a_line_whose_agent_is_silent_is_given_up(site: Site, monkeypatch):
    monkeypatch.setattr(parking_module, "PING_S", 0.2)
    head = b"GET /.berth/line HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: berth-line\r\n"
    with socket.create_connection(("127.0.0.1", site.plain.port), timeout=10) as mute:
        mute.sendall(head + b"Authorization: Bearer node_good\r\n\r\n")
        assert b" 101 " in mute.recv(1000)
        site.wait_parked(1)
        site.wait_parked(0)


@pytest.mark.parametrize("line", [b"GET /other HTTP/1.1", b"POST /.berth/line HTTP/1.1"])
def test_what_is_no_line_is_refused(site: Site, line: bytes):
    head = b"\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: berth-line\r\nAuthorization: Bearer node_good\r\n\r\n"
    assert b" 404 " in site.plain.raw(line + head)


def test_a_gateway_that_does_not_prove_its_name_gets_no_key(site: Site, tmp_path: Path, caplog):
    (tmp_path / "other").mkdir()
    other = make_certificate(tmp_path / "other")
    lines = Lines(ca_file=other.certificate)
    lines.start()
    lines.use(Seat(node="far", key="node_good", lookup=site.here.get), (site.address,))
    wait_for(lambda: "certificate" in caplog.text.lower(), seconds=10, what="the refusal to be logged")
    lines.stop()
    assert site.parking.parked("far") == 0
