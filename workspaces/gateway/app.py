"""The gateway: an ASGI application that lets people and programs into their workspaces, and nobody else.

A request is checked in memory (admission.py), its head rewritten (heads.py), its bytes streamed (upstream.py).
WebSockets do not come through here: server.py hands their connections to tunnel.py, because relaying each message
through ASGI and a client library costs several times what a tunnel does.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from scheduling.nodes.forward import Forwarder, NotReachable
from scheduling.nodes.parking import Parking
from workspaces.gateway.admission import Admitted, Refused, admit
from workspaces.gateway.answers import QUIET, answer
from workspaces.gateway.enter import ENTER, Redeem, enter
from workspaces.gateway.heads import Head, Header, answer_headers, request_head
from workspaces.gateway.origins import Origins
from workspaces.gateway.passages import Passage, Passages
from workspaces.gateway.routes import Rights, Table
from workspaces.gateway.upstream import AnswerLost, Upstreams, Wire

log = logging.getLogger(__name__)

HEALTH = b"/.berth/healthz"
#: may be sent twice without harm, so a kept connection that turns out dead is replaced silently
_REPEATABLE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Gateway:
    """ASGI 3. Build it once; `server.gateway_server` serves it."""

    def __init__(
        self,
        *,
        rights: Rights,
        forwarder: Forwarder,
        redeem: Redeem,
        portal_origin: str,
        domain: str,
        gateway_port: int,
        scheme: str = "",
        parking: Parking | None = None,
    ) -> None:
        """portal_origin: "scheme://host[:port]" as browsers see it. domain, gateway_port, scheme: as in workspaces'
        addresses; the scheme is the portal's unless given. redeem: exchanges a ticket for a cookie (tickets.py)."""
        portal = portal_origin.rstrip("/")
        scheme = scheme or portal.partition("://")[0]
        self.rights = rights
        self.origins = Origins(portal=portal, domain=domain, port=gateway_port, scheme=scheme)
        self.forwarder = forwarder
        #: where agents of other machines leave their lines; None: there are none
        self.parking = parking
        self.passages = Passages()
        self._redeem = redeem
        self._upstreams = Upstreams(forwarder)
        rights.on_change(self._rights_changed)

    def _rights_changed(self, table: Table) -> None:
        self.passages.sweep(table)
        self._upstreams.sweep({route.allocation for route in table.routes.values()})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            raise RuntimeError("Serve the gateway with workspaces.gateway.server: it tunnels WebSockets itself.")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.rights.refresh()
        keeping = asyncio.create_task(self.rights.keep_fresh())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        self._upstreams.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        berth = scope["extensions"]["berth"]
        doorway, target = berth["doorway"], berth["target"]
        head = Head(scope["headers"])
        method = scope["method"].encode()
        doorway.serving = asyncio.current_task()
        try:
            if target.startswith(b"/.berth/"):
                await _say(send, await self._own_page(head=head, method=method, target=target))
            else:
                way = await self.admit(head=head, method=method, target=target)
                await self._relay(way, head=head, method=method, scope=scope, receive=receive, send=send)
        except Refused as refusal:
            await _say(send, answer(refusal, head=head, origins=self.origins))
        except AnswerLost as lost:
            log.info("An answer of a workspace was cut off: %s", lost)
            doorway.abort()  # the client must not take half an answer for a whole one
        except asyncio.CancelledError:
            doorway.abort()  # the client has gone, its right has ended, or the gateway stops
        finally:
            if doorway.serving is asyncio.current_task():
                doorway.serving = None

    async def admit(self, *, head: Head, method: bytes, target: bytes, socket: bool = False) -> Admitted:
        """Answer from memory; look once into the database for what may be younger than the table. Raises Refused."""
        if not self.rights.fresh:
            raise Refused(503, "The gateway cannot check rights right now. Try again in a moment.")
        try:
            return admit(
                head=head, method=method, target=target, table=self.rights.table, origins=self.origins, socket=socket
            )
        except Refused as refusal:
            if not refusal.maybe_new:
                raise
        await self.rights.refresh()
        return admit(
            head=head, method=method, target=target, table=self.rights.table, origins=self.origins, socket=socket
        )

    async def _own_page(self, *, head: Head, method: bytes, target: bytes) -> tuple[int, list[Header], bytes]:
        path = target.partition(b"?")[0]
        if path == HEALTH:
            if not self.rights.fresh:
                raise Refused(503, "The gateway has no rights loaded: the database does not answer it.")
            return (
                200,
                [(b"content-type", b"application/json"), (b"content-length", b"16"), *QUIET],
                b'{"status": "ok"}',
            )
        if path == ENTER:
            return await enter(
                head=head, method=method, target=target, origins=self.origins, rights=self.rights, redeem=self._redeem
            )
        raise Refused(404, "There is no such page on the gateway.")

    async def _relay(
        self, way: Admitted, *, head: Head, method: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        passage = Passage(way.key, way.route.workspace, way.route.allocation, task.cancel)
        self.passages.enter(passage)
        wire: Wire | None = None
        pump: asyncio.Task[None] | None = None
        try:
            first, more = b"", False
            if head.has_body:
                first, more = await _body(receive)
            chunked = b"transfer-encoding" in head.found
            bytes_out = self.request(way, head=head, method=method, client=scope["client"])
            wire = await self._wire(way)
            while True:
                wire.send_head(bytes_out, method=method)
                _write_body(wire, first, chunked=chunked, last=not more)
                if more:
                    pump = asyncio.create_task(_pump(wire, receive, chunked=chunked))
                try:
                    await wire.answer()
                    break
                except AnswerLost as lost:
                    if more or not wire.used or wire.touched or method not in _REPEATABLE:
                        raise Refused(
                            502,
                            "The workspace's server broke off without an answer. Try again.",
                            workspace=way.route.workspace,
                        ) from lost
                wire = await self._wire(way, fresh=True)
            await self._answer(way, wire, send)
        finally:
            if pump is not None and not pump.done():
                pump.cancel()
                if wire is not None:
                    wire.close()  # half a request was sent: nothing else may follow it
            if wire is not None:
                self._upstreams.give_back(wire)
            self.passages.leave(passage)

    async def _wire(self, way: Admitted, *, fresh: bool = False) -> Wire:
        try:
            return await self._upstreams.wire(node=way.route.node, allocation=way.route.allocation, fresh=fresh)
        except NotReachable as error:
            raise unreachable(way) from error

    async def _answer(self, way: Admitted, wire: Wire, send: Send) -> None:
        headers = self.answer_headers(way, wire.headers)
        if wire.status in (204, 304):
            headers = [pair for pair in headers if pair[0] != b"content-length"]
        await send({"type": "http.response.start", "status": wire.status, "headers": headers})
        while True:
            data = await wire.chunk()
            if wire.whole:
                data += await wire.chunk()
                await send({"type": "http.response.body", "body": data})
                return
            await send({"type": "http.response.body", "body": data, "more_body": True})

    # -- what HTTP and WebSockets share ---------------------------------------------------------------------------

    def request(
        self,
        way: Admitted,
        *,
        head: Head,
        method: bytes,
        client: tuple[str, int] | None,
        extra: tuple[Header, ...] = (),
    ) -> bytes:
        """The head that the workspace's server gets: its own token instead of the client's key, and who asks."""
        host = head.get(b"host")
        added = [
            *extra,
            (b"authorization", b"token " + way.route.token.encode()),
            (b"x-forwarded-for", client[0].encode() if client else b"unknown"),
            (b"x-forwarded-host", host),
            (b"x-forwarded-proto", self.origins.scheme.encode()),
        ]
        if way.cookie:
            added.append((b"cookie", way.cookie))
        if b"transfer-encoding" in head.found:
            added.append((b"transfer-encoding", b"chunked"))
        elif b"content-length" in head.found:
            added.append((b"content-length", head.get(b"content-length")))
        return request_head(method=method, target=way.target, host=host, passed=head.passed, extra=added)

    def answer_headers(self, way: Admitted, headers: list[Header]) -> list[Header]:
        address = self._upstreams.address(node=way.route.node, allocation=way.route.allocation)
        return answer_headers(
            headers,
            secret=way.route.token.encode(),
            inside=b"%b:%d" % (address[0].encode(), address[1]) if address else b"",
            outside=way.origin.encode(),
            prefix=way.prefix,
            cookies=way.by_cookie,
        )


def unreachable(way: Admitted) -> Refused:
    return Refused(
        502,
        "The workspace's server cannot be reached. It may just be stopping; look at it in the portal.",
        workspace=way.route.workspace,
    )


async def _say(send: Send, said: tuple[int, list[Header], bytes]) -> None:
    status, headers, body = said
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise asyncio.CancelledError
    return message["body"], message.get("more_body", False)


def _write_body(wire: Wire, data: bytes, *, chunked: bool, last: bool) -> None:
    if not chunked:
        if data:
            wire.write(data)
        return
    end = b"0\r\n\r\n" if last else b""
    wire.write(b"%x\r\n%b\r\n%b" % (len(data), data, end) if data else end)


async def _pump(wire: Wire, receive: Receive, *, chunked: bool) -> None:
    """Pass the rest of an upload on, no faster than the server takes it."""
    more = True
    with contextlib.suppress(AnswerLost):
        while more:
            await wire.drain()
            data, more = await _body(receive)
            _write_body(wire, data, chunked=chunked, last=not more)
