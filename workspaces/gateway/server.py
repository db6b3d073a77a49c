"""The gateway's front side: uvicorn, with a door that watches how requests arrive.

uvicorn's HTTP protocol bounds neither the size of a request's head nor the time it may take, and tells an application
of a vanished client only if asked. `Doorway` adds the three, and turns WebSockets into tunnels (see tunnel.py).
"""

import asyncio
import logging
from typing import Any, cast

import uvicorn

from scheduling.nodes.parking import PATH, UPGRADE, Line, Parking
from workspaces.gateway.app import Gateway
from workspaces.gateway.heads import Head
from workspaces.gateway.tunnel import Tunnel
from workspaces.gateway.upgrades import DeclinesUpgrades

HEAD_S = 20.0
IDLE_S = 75
MAX_HEAD = 64 * 1024


class Doorway(DeclinesUpgrades):
    """One client's connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = logging.getLogger(__name__)
        self.access_log = False
        #: the task that serves the current request; it ends with the connection
        self.serving: asyncio.Task[Any] | None = None
        self._late: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self._late = self.loop.call_later(HEAD_S, self._too_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_time()
        super().connection_lost(exc)
        if self.serving is not None:
            self.serving.cancel()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head:
            if self._late is not None:
                self._on_time()
            return
        self._head_size += len(data)
        if self._head_size > MAX_HEAD:
            self._refuse(b"431 Request Header Fields Too Large")
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_S, self._too_late)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_size = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        # The target as it came: uvicorn keeps the path's bytes but not, for instance, a bare "?".
        self.scope["extensions"] = {"berth": {"target": self.url, "doorway": self}}
        super().on_headers_complete()

    def abort(self) -> None:
        """Cut the client off. Meant so: uvicorn need not complain that there was no answer."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        if not self.transport.is_closing():
            self.transport.abort()

    def _on_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._late = None
        self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        self.transport.close()

    # -- WebSockets -----------------------------------------------------------------------------------------------

    def _should_upgrade(self) -> bool:
        return self._get_upgrade() in (b"websocket", UPGRADE)

    def handle_websocket_upgrade(self) -> None:
        self._on_time()
        if self._get_upgrade() == UPGRADE:
            self._take_line()
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._refuse(b"400 Bad Request")  # pipelined behind a request that is not answered yet
            return
        self.connections.discard(self)
        tunnel = Tunnel(
            gateway=cast(Gateway, self.app),
            transport=self.transport,
            head=Head(self.headers),
            target=self.url,
            method=self.parser.get_method(),
            client=self.client,
            connections=cast(set[Any], self.connections),
        )
        self.transport.set_protocol(tunnel)
        tunnel.open()

    # -- lines of agents ------------------------------------------------------------------------------------------

    def _take_line(self) -> None:
        """An agent offers a connection on which its containers can be reached. Its key is looked up first."""
        parking = cast(Gateway, self.app).parking
        kind, _, key = dict(self.headers).get(b"authorization", b"").decode("latin-1").partition(" ")
        if parking is None or self.url != PATH or self.parser.get_method() != b"GET" or kind.lower() != "bearer":
            self._refuse(b"404 Not Found")
            return
        self.transport.pause_reading()
        self.serving = self.loop.create_task(self._let_in(parking, key))

    async def _let_in(self, parking: Parking, key: str) -> None:
        try:
            node = await parking.admit(key)
        except Exception:  # the edge: the database is away, and the agent tries again
            self.logger.warning("A line could not be let in.", exc_info=True)
            self._refuse(b"503 Service Unavailable")
            return
        if node is None:
            self._refuse(b"401 Unauthorized")
            return
        self.connections.discard(self)
        line = Line(parking, node=node, key=key, connections=cast(set[Any], self.connections))
        self.transport.set_protocol(line)
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: %b\r\n\r\n" % UPGRADE
        )
        line.begin(self.transport)
        self.transport.resume_reading()


#: how uvicorn has to serve a Gateway; logging, signals and the loop stay with whoever runs the process
OPTIONS: dict[str, Any] = {
    "http": Doorway,
    "ws": "none",
    "lifespan": "on",
    "interface": "asgi3",
    "proxy_headers": False,
    "date_header": False,
    "timeout_keep_alive": IDLE_S,
}


def gateway_server(gateway: Gateway, *, host: str, port: int) -> uvicorn.Server:
    """A server for one gateway in a process of its own, not started yet."""
    return uvicorn.Server(
        uvicorn.Config(
            cast(Any, gateway),
            host=host,
            port=port,
            loop="uvloop",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=2,
            **OPTIONS,
        )
    )
