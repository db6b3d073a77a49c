"""WebSockets: the handshake is checked and rewritten like any request; then bytes go both ways untouched.

Relaying message by message (uvicorn's socket, aiohttp's socket) costs two parsers, two serialisers and four task
switches each; a tunnel costs one write. Frames, pings, close codes, subprotocols and compression are so a matter of the
browser and the kernel's server alone. What may go wrong with tunnels is a server that declines the upgrade while the
client goes on talking to it behind our checks: bytes of the client only pass once the server has said 101.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Any, cast

from scheduling.nodes.forward import NotReachable
from workspaces.gateway.admission import Admitted, Refused
from workspaces.gateway.answers import answer
from workspaces.gateway.app import Gateway
from workspaces.gateway.heads import Head, Header
from workspaces.gateway.passages import Passage
from workspaces.gateway.upstream import connect

log = logging.getLogger(__name__)

#: a server that does not answer the handshake for so long will not
HANDSHAKE_S = 20.0
_MAX_HEAD = 64 * 1024


class Tunnel(asyncio.Protocol):
    """The client's end."""

    def __init__(
        self,
        *,
        gateway: Gateway,
        transport: asyncio.Transport,
        head: Head,
        target: bytes,
        method: bytes,
        client: tuple[str, int] | None,
        connections: set[Any],
    ) -> None:
        self._gateway = gateway
        self._transport = transport
        self._head = head
        self._target = target
        self._method = method
        self._client = client
        self._connections = connections
        self._far: _FarEnd | None = None
        self._passage: Passage | None = None
        self._opening: asyncio.Task[None] | None = None
        self._early = bytearray()

    def open(self) -> None:
        """Check the handshake and connect. Until that is done nothing is read from the client."""
        self._transport.pause_reading()
        self._connections.add(self)
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        try:
            way = await self._check()
            self._passage = Passage(way.key, way.route.workspace, way.route.allocation, self.close)
            self._gateway.passages.enter(self._passage)
            far = _FarEnd(self)
            far.keep = await connect(self._gateway.forwarder, far, node=way.route.node, allocation=way.route.allocation)
            self._far = far
            extra: tuple[Header, ...] = ((b"connection", b"Upgrade"), (b"upgrade", b"websocket"))
            far.write(self._gateway.request(way, head=self._head, method=b"GET", client=self._client, extra=extra))
            async with asyncio.timeout(HANDSHAKE_S):
                status, headers = await far.handshake
            if status != 101:
                raise _declined(status, way)
            self._accept(self._gateway.answer_headers(way, headers))
            far.begin()
        except Refused as refusal:
            self._refuse(refusal)
        except (NotReachable, TimeoutError, ConnectionError) as error:
            log.info("A socket could not be opened: %s", error)
            self._refuse(Refused(502, "The workspace's server cannot be reached. Try again in a moment."))
        except asyncio.CancelledError:
            self.close()  # the client has gone or the gateway stops; this task ends here anyway
        finally:
            self._opening = None

    async def _check(self) -> Admitted:
        if self._method != b"GET" or self._head.has_body:
            raise Refused(400, "A WebSocket is opened by GET without a body.")
        return await self._gateway.admit(head=self._head, method=self._method, target=self._target, socket=True)

    def _accept(self, headers: list[Header]) -> None:
        lines = [b"HTTP/1.1 101 Switching Protocols", b"upgrade: websocket", b"connection: Upgrade"]
        lines += [name + b": " + value for name, value in headers if name != b"content-length"]
        self._transport.write(b"\r\n".join(lines) + b"\r\n\r\n")
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _refuse(self, refusal: Refused) -> None:
        status, headers, body = answer(refusal, head=self._head, origins=self._gateway.origins)
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode(), b"connection: close"]
        lines += [name + b": " + value for name, value in headers]
        if not self._transport.is_closing():
            self._transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
            self._transport.close()

    def close(self) -> None:
        """Cut both ends off, whatever is still on its way."""
        self._transport.abort()
        if self._far is not None:
            self._far.close()

    def shutdown(self) -> None:
        """uvicorn is stopping."""
        self.close()

    # -- asyncio.Protocol, client's side --------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._far is not None and self._far.open:
            self._far.write(data)
        else:
            # Read before pausing took effect. A client that keeps to the protocol says nothing before our 101.
            self._early += data
            if len(self._early) > _MAX_HEAD:
                self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._passage is not None:
            self._gateway.passages.leave(self._passage)
        if self._opening is not None:
            self._opening.cancel()
        if self._far is not None:
            self._far.hang_up()

    def pause_writing(self) -> None:
        if self._far is not None:
            self._far.pause()

    def resume_writing(self) -> None:
        if self._far is not None:
            self._far.resume()

    # -- called by the far end ------------------------------------------------------------------------------------

    def pass_on(self, data: bytes) -> None:
        self._transport.write(data)

    def take_early(self) -> bytes:
        early, self._early = bytes(self._early), bytearray()
        return early

    def pause(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def hang_up(self) -> None:
        """The server has closed: deliver what is left, then close too."""
        self._transport.close()


class _FarEnd(asyncio.Protocol):
    """The server's end: first an answer to the handshake, then bytes."""

    def __init__(self, near: Tunnel) -> None:
        self.keep: object = None
        self.open = False
        self.handshake: asyncio.Future[tuple[int, list[Header]]] = asyncio.get_running_loop().create_future()
        self._near = near
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.open:
            self._near.pass_on(data)
            return
        self._buffer += data
        if not self.handshake.done():
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _MAX_HEAD:
                    self.handshake.set_exception(ConnectionError("its answer to the handshake is too long"))
                return
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            try:
                self.handshake.set_result(_parse(head))
            except ValueError:
                self.handshake.set_exception(ConnectionError("its answer to the handshake is not HTTP"))
        self.pause()  # until our 101 is on its way to the client

    def begin(self) -> None:
        """Both sides have agreed: from here on everything passes."""
        self.open = True
        if self._buffer:
            self._near.pass_on(bytes(self._buffer))
            self._buffer.clear()
        if early := self._near.take_early():
            self.write(early)
        self.resume()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.handshake.done():
            self.handshake.set_exception(ConnectionError("it hung up during the handshake"))
        elif self.open:
            self._near.hang_up()

    def pause_writing(self) -> None:
        self._near.pause()

    def resume_writing(self) -> None:
        self._near.resume()

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def hang_up(self) -> None:
        """The client has closed: deliver what is left, then close too."""
        self.handshake.cancel()
        if self._transport is not None:
            self._transport.close()

    def close(self) -> None:
        self.handshake.cancel()
        if self._transport is not None:
            self._transport.abort()


def _parse(head: bytes) -> tuple[int, list[Header]]:
    """Status and headers. Raises ValueError."""
    first, *lines = head.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise ValueError(first)
    headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip() or b"\r" in line or b"\n" in line or b"\0" in line:
            raise ValueError(line)
        headers.append((name.lower(), value.strip()))
    return int(rest[:3]), headers


def _declined(status: int, way: Admitted) -> Refused:
    if status in (401, 403, 404):
        return Refused(status, "The workspace's server declined this socket.", workspace=way.route.workspace)
    return Refused(502, f"The workspace's server answered {status} to this socket.", workspace=way.route.workspace)
