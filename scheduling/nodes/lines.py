"""The agent's end of the data path: a few lines out to each gateway, so that no node has a port to reach from outside.

See parking.py for what is said on a line. When one is dialled, the agent looks the allocation up among its own, which
is the check that a gateway reaches nothing else through it, dials the container, and opens a new line in its place.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

from scheduling.nodes.parking import PATH, PING_S, UPGRADE
from scheduling.nodes.portal_client import BadAddress, read_address, tls_context

log = logging.getLogger("berth.lines")

CONNECT_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
Lookup = Callable[[str], tuple[str, int] | None]


@dataclass(frozen=True, slots=True)
class Seat:
    """A node: its key, and where its own ready allocations listen (None for anything else)."""

    node: str
    key: str
    lookup: Lookup


class Refused(ConnectionError):
    """The gateway does not take this line; the message is what it answered."""


class Lines:
    """One thread with one event loop, for all nodes of this process. idle: lines per node and gateway that wait."""

    def __init__(self, *, ca_file: Path | None, idle: int = 4) -> None:
        self._ca_file = ca_file
        self._idle = idle
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
        self._keeping: dict[str, tuple[tuple[str, ...], list[asyncio.Task[None]]]] = {}
        self._streams: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Cut all lines and streams."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    def use(self, seat: Seat, gateways: tuple[str, ...]) -> None:
        """Keep lines from this node to these gateways alone. Any thread, any time; the same again is cheap."""
        if self._keeping.get(seat.node, ((), []))[0] != gateways:
            self._loop.call_soon_threadsafe(self._change, seat, gateways)

    def _run(self) -> None:
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _change(self, seat: Seat, gateways: tuple[str, ...]) -> None:
        before, tasks = self._keeping.get(seat.node, ((), []))
        if before == gateways:
            return
        for task in tasks:
            task.cancel()
        started = [
            self._loop.create_task(self._keep(seat, gateway, loud=number == 0))
            for gateway in gateways
            for number in range(self._idle)
        ]
        self._keeping[seat.node] = (gateways, started)

    # -- one line after the other ---------------------------------------------------------------------------------
    async def _keep(self, seat: Seat, gateway: str, *, loud: bool) -> None:
        """loud: the one of its siblings that logs why it fails."""
        pause, told = FIRST_PAUSE_S, ""
        while True:
            writer = None
            try:
                reader, writer = await self._park(seat, gateway)
                pause, told = FIRST_PAUSE_S, ""
                allocation = await _dialled(reader, writer)
            except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, BadAddress) as error:
                if writer is not None:
                    writer.transport.abort()
                if loud and str(error) != told:
                    told = str(error)
                    log.warning("%s: no line to the gateway %s: %s", seat.node, gateway, error or type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)
                continue
            except asyncio.CancelledError:
                if writer is not None:
                    writer.transport.abort()
                raise
            except Exception:  # the edge of a task that nobody waits for
                log.exception("%s: a line to %s broke", seat.node, gateway)
                await asyncio.sleep(LONGEST_PAUSE_S)
                continue
            stream = self._loop.create_task(_carry(seat, allocation, writer))
            self._streams.add(stream)
            stream.add_done_callback(self._streams.discard)

    async def _park(self, seat: Seat, gateway: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = read_address(gateway)
        tls = tls_context(self._ca_file) if address.tls else None
        async with asyncio.timeout(CONNECT_S * 2):
            reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            try:
                lines = [
                    b"GET %b HTTP/1.1" % PATH,
                    b"Host: " + address.netloc.encode(),
                    b"Connection: Upgrade",
                    b"Upgrade: " + UPGRADE,
                    b"Authorization: Bearer " + seat.key.encode(),
                ]
                writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                if head.split(b" ", 2)[1:2] != [b"101"]:
                    raise Refused(f"it answered {head.splitlines()[0][:100].decode(errors='replace')}")
            except BaseException:
                writer.transport.abort()
                raise
        return reader, writer


async def _dialled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """The allocation that is asked for; until then pings are sent back. Raises EOFError, TimeoutError."""
    while True:
        async with asyncio.timeout(3 * PING_S):
            line = await reader.readline()
        if line == b"\n":
            writer.write(b"\n")
        elif line.startswith(b"dial ") and line.endswith(b"\n"):
            return line[5:-1].decode(errors="replace")
        else:
            raise EOFError("the gateway hung up")


async def _carry(seat: Seat, allocation: str, writer: asyncio.StreamWriter) -> None:
    """Join the line to the container's server, if that is one of this node's own."""
    line = cast(asyncio.Transport, writer.transport)
    address = seat.lookup(allocation)
    if address is None:
        _decline(line, "it is not on this node")
        return
    far = _End()
    try:
        async with asyncio.timeout(CONNECT_S):
            await asyncio.get_running_loop().create_connection(lambda: far, *address)
    except (OSError, TimeoutError) as error:
        _decline(line, f"its server does not accept connections ({error or 'it does not answer'})")
        return
    near = _End(keep=writer)
    near.join(far)
    near.connection_made(line)
    line.set_protocol(near)
    if line.is_closing():  # the gateway hung up while we dialled
        far.finish()
        return
    line.write(b"ok\n")
    far.begin()


def _decline(line: asyncio.Transport, why: str) -> None:
    line.write(b"no %b\n" % why.replace("\n", " ")[:300].encode())
    line.close()


class _End(asyncio.Protocol):
    """One end of a stream: what comes goes out at the other, and who cannot take more holds the other up.

    keep: what must live as long as this end.
    """

    def __init__(self, *, keep: object = None) -> None:
        self._keep = keep
        self._other: _End | None = None
        self._transport: asyncio.Transport | None = None
        self._early = b""

    def join(self, other: "_End") -> None:
        self._other, other._other = other, self

    def begin(self) -> None:
        """The other end may be written to now; what this one read before goes first."""
        early, self._early = self._early, b""
        if early and self._other is not None:
            self._other.write(early)
        if self._transport is None and self._other is not None:
            self._other.finish()  # it hung up before the stream began

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def finish(self) -> None:
        """Deliver what is left, then close."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early += data
        else:
            self._other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._other is not None:
            self._other.finish()

    def pause_writing(self) -> None:
        if self._other is not None and self._other._transport is not None:
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None and self._other._transport is not None and not self._other._transport.is_closing():
            self._other._transport.resume_reading()
