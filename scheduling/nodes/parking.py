"""The gateway's end of the data path: lines that agents have opened to it, each waiting to carry one stream.

A line begins as an HTTP upgrade on the gateway's own port, so it passes the proxy that ends TLS before it. Then words
end in newlines: the gateway sends an empty one every 20 s, which the agent sends back; `dial <allocation>` asks for a
stream, and `ok` or `no <why>` answers. After `ok` the connection is that stream and nothing else, unframed, so that
back-pressure holds from browser to container.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Any

from portal.kernel import clock
from scheduling.nodes.forward import NotReachable

log = logging.getLogger("berth.lines")

UPGRADE, PATH = b"berth-line", b"/.berth/line"
PING_S = 20.0
#: a key is looked up again so often, for a line outlives the moment when it was let in
TRUSTED_S = 15.0
MOST_PER_NODE = 64
_LONGEST_LINE = 512


class Line(asyncio.Protocol):
    """One connection of an agent, parked until it is dialled."""

    def __init__(self, parking: "Parking", *, node: str, key: str, connections: set[Any]) -> None:
        self.node, self.key = node, key
        self._parking = parking
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[None] | None = None
        self._pinged = False
        self._next_ping: asyncio.TimerHandle | None = None

    # -- parked ---------------------------------------------------------------------------------------------------
    def begin(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._connections.add(self)
        self._ping_later()
        self._parking.park(self)

    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def shutdown(self) -> None:
        """uvicorn is stopping."""
        self.close()

    def _ping_later(self) -> None:
        self._next_ping = asyncio.get_running_loop().call_later(PING_S, self._ping)

    def _ping(self) -> None:
        if self._answer is not None or self._transport is None:
            return
        if self._pinged:
            log.info("a line of %s has gone silent", self.node)
            self.close()
            return
        self._pinged = True
        self._transport.write(b"\n")
        self._parking.check_again(self)
        self._ping_later()

    # -- dialled --------------------------------------------------------------------------------------------------
    async def dial(self, allocation: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Turn the line into a stream. Raises NotReachable, and the line is gone then."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        if self._next_ping is not None:
            self._next_ping.cancel()
        self._transport.write(b"dial %b\n" % allocation.encode())
        try:
            await self._answer
        except BaseException:
            self.close()
            raise
        transport, self._transport = self._transport, None
        self._connections.discard(self)
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        protocol.connection_made(transport)
        transport.set_protocol(protocol)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    # -- asyncio.Protocol -----------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._answer is None:
            if self._buffer.strip(b"\n"):
                self.close()  # a parked line has nothing to say
            self._buffer, self._pinged = b"", False
            return
        self._buffer = self._buffer.lstrip(b"\n")  # of a ping on its way
        said, end, rest = self._buffer.partition(b"\n")
        if not end:
            if len(self._buffer) > _LONGEST_LINE:
                self._settle("its agent does not keep to the protocol")
        elif said == b"ok" and not rest:
            assert self._transport is not None
            self._transport.pause_reading()  # until whoever dialled has taken over
            self._settle("")
        else:
            self._settle(said[3:].decode(errors="replace") if said.startswith(b"no ") else "its server spoke too early")

    def _settle(self, why: str) -> None:
        assert self._answer is not None
        if self._answer.done():
            return
        if why:
            self._answer.set_exception(NotReachable(why))
        else:
            self._answer.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)
        if self._next_ping is not None:
            self._next_ping.cancel()
        self._parking.forget(self)
        if self._answer is not None:
            self._settle("its agent hung up")


class Parking:
    """All parked lines by node. `node_of` answers whose key it is, or None; it may ask a database."""

    def __init__(self, *, node_of: Callable[[str], Awaitable[str | None]]) -> None:
        self._node_of = node_of
        self._parked: defaultdict[str, deque[Line]] = defaultdict(deque)
        self._waiting: defaultdict[str, deque[asyncio.Future[Line]]] = defaultdict(deque)
        self._trusted: dict[str, tuple[str | None, float]] = {}
        self._checks: set[asyncio.Task[None]] = set()

    async def admit(self, key: str) -> str | None:
        """The node that this key speaks for, as of the last few seconds."""
        node, until = self._trusted.get(key, (None, float("-inf")))
        if clock.monotonic() >= until:
            node = await self._node_of(key)
            self._trusted = {k: kept for k, kept in self._trusted.items() if kept[1] > clock.monotonic()}
            self._trusted[key] = (node, clock.monotonic() + TRUSTED_S)
        return node

    def check_again(self, line: Line) -> None:
        task = asyncio.get_running_loop().create_task(self._check(line))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _check(self, line: Line) -> None:
        try:
            good = await self.admit(line.key) == line.node
        except Exception:  # the database is away: who was let in stays
            log.warning("cannot look up the key of %s", line.node, exc_info=True)
            return
        if not good:
            log.warning("the key of %s counts no more", line.node)
            line.close()

    def park(self, line: Line) -> None:
        waiting = self._waiting[line.node]
        while waiting:
            who = waiting.popleft()
            if not who.done():
                who.set_result(line)
                return
        if len(self._parked[line.node]) >= MOST_PER_NODE:
            line.close()
        else:
            self._parked[line.node].append(line)

    def forget(self, line: Line) -> None:
        if line in self._parked[line.node]:
            self._parked[line.node].remove(line)

    def parked(self, node: str) -> int:
        return len(self._parked[node])

    async def dial(self, *, node: str, allocation: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A stream to the allocation's server; waits for a line where all are taken. Raises NotReachable."""
        return await (await self._take(node)).dial(allocation)

    async def _take(self, node: str) -> Line:
        while True:
            parked = self._parked[node]
            if parked:
                line = parked.popleft()
            else:
                wanted: asyncio.Future[Line] = asyncio.get_running_loop().create_future()
                self._waiting[node].append(wanted)
                line = await wanted
            if line.is_open():
                return line
