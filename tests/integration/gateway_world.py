"""A real gateway in a thread, a server behind it that remembers every byte, and a client that sends any byte."""

import asyncio
import http.client
import json
import socket
import socketserver
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvloop

from scheduling.nodes.forward import DirectForwarder, Forwarder
from tests.services import wait_for
from workspaces.gateway.app import Gateway
from workspaces.gateway.enter import Redeem
from workspaces.gateway.routes import Events, Rights, Table
from workspaces.gateway.server import gateway_server

SERVER_TOKEN = "the-servers-own-token-that-nobody-may-see"
PORTAL = "http://localhost:8000"


# -- the server behind ------------------------------------------------------------------------------------------------
@dataclass
class Seen:
    """One request as it arrived at the workspace's server."""

    line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    def one(self, name: bytes) -> bytes | None:
        (value,) = self.all(name) or [None]
        return value


class Behind(socketserver.ThreadingTCPServer):
    """Answers what `says` holds for a path, byte for byte, and keeps what it was asked in `seen`."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.says: dict[bytes, bytes | Callable[[Any], None]] = {}
        self.takes: dict[bytes, Callable[[Any], None]] = {}  # reads the body itself
        self.seen: list[Seen] = []
        self.connections = 0

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Conversation(socketserver.StreamRequestHandler):
    server: Behind

    def handle(self) -> None:
        self.server.connections += 1
        while line := self.rfile.readline().strip():
            headers = []
            while header := self.rfile.readline().strip():
                name, _, value = header.partition(b":")
                headers.append((name.lower(), value.strip()))
            path = line.split(b" ")[1].partition(b"?")[0]
            if path in self.server.takes:
                self.server.takes[path](self)
                return
            self.server.seen.append(Seen(line, headers, self._body(dict(headers))))
            answer = self.server.says.get(path, ok(b"hello"))
            if callable(answer):
                answer(self)
                return
            self.wfile.write(answer)
            if b"connection: close" in answer.lower():
                return

    def _body(self, headers: dict[bytes, bytes]) -> bytes:
        if headers.get(b"upgrade"):
            return b""
        if headers.get(b"transfer-encoding") == b"chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(headers.get(b"content-length", b"0")))


def ok(body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@contextmanager
def server_behind() -> Iterator[Behind]:
    with Behind() as behind:
        thread = threading.Thread(target=behind.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield behind
        finally:
            behind.shutdown()
            thread.join()


# -- the gateway ------------------------------------------------------------------------------------------------------
@dataclass
class Running:
    """A gateway that serves. `targets`: where allocations are."""

    port: int
    gateway: Gateway
    loop: asyncio.AbstractEventLoop
    targets: dict[str, tuple[str, int]] = field(default_factory=dict)

    def host(self, workspace: str) -> str:
        return f"w-{workspace}.localhost:{self.port}"

    def origin(self, workspace: str) -> str:
        return f"http://{self.host(workspace)}"

    def refresh(self) -> None:
        asyncio.run_coroutine_threadsafe(self.gateway.rights.refresh(), self.loop).result(10)

    def ask(
        self,
        target: str = "/",
        *,
        method: str = "GET",
        host: str = "",
        headers: Mapping[str, str] | list[tuple[str, str]] = (),  # type: ignore[assignment]
        body: bytes | None = None,
    ) -> "Reply":
        """One request on a connection of its own; no header is added but Host and Content-Length."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host or f"localhost:{self.port}")
            for name, value in headers.items() if isinstance(headers, Mapping) else headers:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Reply(response.status, [(k.lower(), v) for k, v in response.getheaders()], response.read())
        finally:
            connection.close()

    def raw(self, data: bytes, *, enough: bytes = b"") -> bytes:
        """Send bytes, return what comes until `enough` is in it or the gateway hangs up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            sock.sendall(data)
            got = b""
            while not enough or enough not in got:
                try:
                    piece = sock.recv(65536)
                except ConnectionError:
                    break
                if not piece:
                    break
                got += piece
            return got


@dataclass
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def one(self, name: str) -> str | None:
        (value,) = self.all(name) or [None]
        return value

    @property
    def detail(self) -> str:
        return str(json.loads(self.body)["detail"])


@contextmanager
def running_gateway(
    *,
    load: Callable[[], Awaitable[Table]],
    redeem: Redeem | None = None,
    targets: dict[str, tuple[str, int]],
    every_s: float = 5.0,
    events: Events | None = None,
    portal: str = PORTAL,
    forwarder: Forwarder | None = None,
) -> Iterator[Running]:
    """Serve a gateway on a free port until the block ends."""

    async def no_ticket(ticket: str, workspace: str) -> tuple[str, int] | None:
        return None

    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    gateway = Gateway(
        rights=Rights(load=load, every_s=every_s, events=events),
        forwarder=forwarder or DirectForwarder(targets.get),
        redeem=redeem or no_ticket,
        portal_origin=portal,
        domain="localhost",
        gateway_port=port,
    )
    server = gateway_server(gateway, host="127.0.0.1", port=port)
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve(sockets=[sock])), daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started, seconds=10, what="the gateway")
        yield Running(port=port, gateway=gateway, loop=loop, targets=targets)
    finally:
        server.should_exit = True
        thread.join(15)
        loop.close()
        sock.close()
