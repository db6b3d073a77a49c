"""WebSockets through the gateway, with a server and a client that nobody here wrote."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import websockets
from websockets.asyncio.server import ServerConnection, serve
from websockets.sync.client import ClientConnection, connect

from tests.integration.gateway_process import fixed_table
from tests.integration.gateway_world import SERVER_TOKEN, Behind, Running, running_gateway, server_behind
from tests.services import wait_for
from workspaces.gateway.routes import Table

COOKIE, TOKEN = "a-good-cookie", "berth_a-good-token"
KERNEL = "v1.kernel.websocket.jupyter.org"


class Echo:
    """Echoes what it gets; a text like `close 4001 why` makes it close so, `send N` makes it send N bytes."""

    def __init__(self) -> None:
        self.heads: list[Any] = []
        self.closed: list[tuple[int | None, str | None]] = []
        self.port = 0
        self.pings = 0

    async def talk(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.heads.append(connection.request)
        try:
            async for message in connection:
                if isinstance(message, str) and message.startswith("close "):
                    _, code, why = message.split(" ", 2)
                    await connection.close(int(code), why)
                elif isinstance(message, str) and message.startswith("send "):
                    await connection.send(b"z" * int(message.split()[1]))
                elif message == "ping":
                    await (await connection.ping(b"are you there"))
                    await connection.send("pong came")
                else:
                    await connection.send(message)
        finally:
            self.closed.append((connection.close_code, connection.close_reason))


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    echo, loop, stop = Echo(), asyncio.new_event_loop(), asyncio.Event()
    ready = threading.Event()

    def choose(connection: ServerConnection, offered: Any) -> Any:
        return KERNEL if KERNEL in offered else None

    async def run() -> None:
        async with serve(
            echo.talk, "127.0.0.1", 0, select_subprotocol=choose, max_size=None, ping_interval=None
        ) as server:
            echo.port = next(iter(server.sockets)).getsockname()[1]
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield echo
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


@pytest.fixture(scope="module")
def gate(echo: Echo) -> Iterator[Running]:
    async def load() -> Table:
        return fixed_table(cookie=COOKIE, token=TOKEN)

    with running_gateway(load=load, targets={"a1": ("127.0.0.1", echo.port)}) as running:
        yield running


@pytest.fixture(autouse=True)
def forget(echo: Echo) -> None:
    echo.heads.clear()
    echo.closed.clear()


def open_socket(gate: Running, *, origin: str | None = "own", path: str = "/api/kernels/k/channels", **asked: Any):  # type: ignore[no-untyped-def]
    """As alice's browser does it: by host name, with the cookie and an Origin."""
    sock = socket.create_connection(("127.0.0.1", gate.port))
    asked.setdefault("additional_headers", {"Cookie": f"berth_gate={COOKIE}; sessionid=s; _xsrf=1"})
    asked.setdefault("max_size", None)
    return connect(
        f"ws://{gate.host('one')}{path}",
        sock=sock,
        origin=gate.origin("one") if origin == "own" else origin,  # type: ignore[arg-type]
        proxy=None,
        **asked,
    )


def program_socket(gate: Running, *, token: str = TOKEN, workspace: str = "one", **asked: Any) -> ClientConnection:
    headers = {"Authorization": f"Bearer {token}", **asked.pop("headers", {})}
    return connect(f"ws://localhost:{gate.port}/w/{workspace}/ws", additional_headers=headers, proxy=None, **asked)


class TestTraffic:
    def test_text_and_binary_pass_both_ways(self, gate: Running) -> None:
        with open_socket(gate) as ws:
            for message in ("hello", "ünïcödé " * 100, b"", bytes(range(256)) * 50):
                ws.send(message)
                assert ws.recv(5) == message

    def test_a_big_frame_passes_both_ways(self, gate: Running) -> None:
        big = b"b" * (20 * 1024 * 1024)
        with open_socket(gate, compression=None) as ws:
            ws.send(big)
            assert ws.recv(30) == big

    def test_the_kernels_subprotocol_is_agreed_end_to_end(self, gate: Running, echo: Echo) -> None:
        with open_socket(gate, subprotocols=["other", KERNEL]) as ws:
            assert ws.subprotocol == KERNEL
        assert echo.heads[-1].headers["Sec-WebSocket-Protocol"] == f"other, {KERNEL}"

    def test_pings_are_answered_by_the_far_end_in_both_directions(self, gate: Running) -> None:
        with open_socket(gate) as ws:
            assert ws.ping(b"here").wait(5)
            ws.send("ping")
            assert ws.recv(5) == "pong came"

    def test_close_codes_pass_from_the_server(self, gate: Running) -> None:
        with open_socket(gate) as ws:
            ws.send("close 4321 enough of this")
            with pytest.raises(websockets.ConnectionClosed):
                ws.recv(5)
            assert (ws.close_code, ws.close_reason) == (4321, "enough of this")

    def test_close_codes_pass_from_the_client(self, gate: Running, echo: Echo) -> None:
        with open_socket(gate) as ws:
            ws.close(4007, "done")
        wait_for(lambda: (4007, "done") in echo.closed, seconds=5, what="the close to arrive")

    def test_a_client_that_vanishes_takes_the_servers_end_along(self, gate: Running, echo: Echo) -> None:
        with open_socket(gate) as ws:
            ws.socket.shutdown(socket.SHUT_RDWR)
            wait_for(lambda: echo.closed, seconds=5, what="the server to notice")

    def test_a_big_answer_waits_for_its_reader(self, gate: Running) -> None:
        with open_socket(gate, compression=None) as ws:
            ws.send("send 60000000")
            time.sleep(0.3)
            assert len(ws.recv(30)) == 60_000_000

    def test_fifty_at_once_do_not_mix(self, gate: Running) -> None:
        with ExitStack() as stack:
            opened = [stack.enter_context(open_socket(gate)) for _ in range(50)]
            for number, ws in enumerate(opened):
                ws.send(f"I am {number}")
            assert [ws.recv(5) for ws in opened] == [f"I am {number}" for number in range(50)]


class TestTheHandshake:
    def test_the_server_sees_its_token_and_no_cookie_of_ours(self, gate: Running, echo: Echo) -> None:
        with open_socket(gate, path="/a%2Fb?x=%20"):
            pass
        request = echo.heads[-1]
        assert request.path == "/a%2Fb?x=%20"
        assert request.headers["Authorization"] == f"token {SERVER_TOKEN}"
        assert request.headers["Cookie"] == "_xsrf=1"
        assert request.headers["Host"] == gate.host("one")
        assert request.headers["Origin"] == gate.origin("one")

    def test_a_program_comes_in_with_its_token(self, gate: Running, echo: Echo) -> None:
        with program_socket(gate) as ws:
            ws.send("hi")
            assert ws.recv(5) == "hi"
        assert echo.heads[-1].path == "/ws"
        assert echo.heads[-1].headers["Authorization"] == f"token {SERVER_TOKEN}"

    @pytest.mark.parametrize(
        "origin",
        [
            None, "null", "http://localhost:8000", "http://w-one.localhost", "http://w-two.localhost:{port}",
            "https://w-one.localhost:{port}", "http://w-one.localhost:{port}0", "http://w-one.localhost:{port}/",
        ],
    )  # fmt: skip
    def test_only_the_workspaces_own_pages_may_open_one(self, gate: Running, echo: Echo, origin: str | None) -> None:
        with pytest.raises(websockets.InvalidStatus) as refused:
            open_socket(gate, origin=origin.format(port=gate.port) if origin else None)
        assert refused.value.response.status_code == 403
        assert echo.heads == []

    def test_a_page_of_another_origin_may_not_use_a_token(self, gate: Running) -> None:
        with pytest.raises(websockets.InvalidStatus) as refused:
            program_socket(gate, headers={"Origin": "http://localhost:8000"})
        assert refused.value.response.status_code == 403
        with program_socket(gate, headers={"Origin": f"http://localhost:{gate.port}"}):
            pass

    def test_without_a_good_key_there_is_no_socket(self, gate: Running, echo: Echo) -> None:
        for cookie, status in (("", 401), ("berth_gate=wrong", 401), (f"berth_gate={TOKEN}", 401)):
            with pytest.raises(websockets.InvalidStatus) as refused:
                open_socket(gate, additional_headers={"Cookie": cookie})
            assert refused.value.response.status_code == status
        for token, workspace, status in ((COOKIE, "one", 401), ("wrong", "one", 401), (TOKEN, "two", 404)):
            with pytest.raises(websockets.InvalidStatus) as refused:
                program_socket(gate, token=token, workspace=workspace)
            assert refused.value.response.status_code == status
        assert echo.heads == []

    def test_a_cookie_does_not_count_by_the_programs_way(self, gate: Running) -> None:
        with pytest.raises(websockets.InvalidStatus) as refused:
            connect(
                f"ws://localhost:{gate.port}/w/one/ws",
                additional_headers={"Cookie": f"berth_gate={COOKIE}"},
                proxy=None,
            )
        assert refused.value.response.status_code == 401


class TestServersThatDecline:
    """A client must not talk to the server behind our checks by pretending that an upgrade took place."""

    UPGRADE = (
        "GET /w/one/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Authorization: Bearer {TOKEN}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n"
    ).encode()
    SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"

    @pytest.fixture
    def behind(self) -> Iterator[Behind]:
        with server_behind() as server:
            yield server

    @pytest.fixture
    def gate(self, behind: Behind) -> Iterator[Running]:
        async def load() -> Table:
            return fixed_table(cookie=COOKIE, token=TOKEN)

        with running_gateway(load=load, targets={"a1": ("127.0.0.1", behind.port)}) as running:
            yield running

    @pytest.mark.parametrize(
        ("said", "status"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"502"),
            (b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n", b"502"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"404"),
            (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", b"403"),
            (b"nonsense\r\n\r\n", b"502"),
        ],
    )
    def test_nothing_passes_before_the_server_has_agreed(
        self, gate: Running, behind: Behind, said: bytes, status: bytes
    ) -> None:
        behind.says[b"/ws"] = said
        answer = gate.raw(self.UPGRADE + b"\r\n" + self.SMUGGLED)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert [seen.line for seen in behind.seen] == [b"GET /ws HTTP/1.1"]
        wait_for(lambda: len(gate.gateway.passages) == 0, seconds=5, what="the passage to end")

    def test_an_upgrade_with_a_body_is_refused(self, gate: Running, behind: Behind) -> None:
        answer = gate.raw(self.UPGRADE + b"Content-Length: %d\r\n\r\n" % len(self.SMUGGLED) + self.SMUGGLED)
        assert answer.startswith(b"HTTP/1.1 400")
        assert behind.seen == []

    def test_a_server_that_is_not_there_gives_502(self, gate: Running) -> None:
        gate.targets.clear()
        assert gate.raw(self.UPGRADE + b"\r\n").startswith(b"HTTP/1.1 502")

    def test_the_answer_to_a_handshake_is_cleaned_too(self, gate: Running, behind: Behind) -> None:
        behind.says[b"/ws"] = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n"
            b"Set-Cookie: sessionid=evil\r\nX-Echo: " + SERVER_TOKEN.encode() + b"\r\nConnection: close\r\n\r\n"
        )
        answer = gate.raw(self.UPGRADE + b"\r\n").lower()
        assert b"sec-websocket-accept: x" in answer
        assert b"sessionid" not in answer
        assert SERVER_TOKEN.encode() not in answer
