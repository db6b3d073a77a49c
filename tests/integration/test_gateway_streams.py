"""Half a gigabyte each way through a gateway of its own process, which must not grow by it; and readers that stall."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_world import Behind, server_behind
from tests.services import free_port, wait_for

COOKIE, TOKEN = "a-good-cookie", "berth_a-good-token"
MB = 1024 * 1024
SIZE = 500 * MB
MAY_GROW = 50 * MB
#: what all buffers on the way may hold together: two kernels' sockets on each side, and ours
MAY_WAIT = 24 * MB
PIECE = bytes(range(256)) * 4096
HEAD = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eDNKSE1iREw=\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class Process:
    """The gateway's process and its memory."""

    def __init__(self, popen: "subprocess.Popen[bytes]", port: int) -> None:
        self.popen, self.port = popen, port

    def _status(self, field: str) -> int:
        for line in Path(f"/proc/{self.popen.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {field}")

    def resident(self) -> int:
        return self._status("VmRSS")

    def peak(self) -> int:
        """The most that was ever resident."""
        return self._status("VmHWM")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


@pytest.fixture(scope="module")
def behind() -> Iterator[Behind]:
    with server_behind() as server:
        yield server


@pytest.fixture
def gate(behind: Behind) -> Iterator[Process]:
    port = free_port()
    rights = json.dumps({"backend": behind.port, "cookie": COOKIE, "token": TOKEN})
    program = [sys.executable, "-m", "tests.integration.gateway_process", str(port), rights]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": ""}
    popen = subprocess.Popen(program, env=environment, cwd=Path(__file__).parents[2])
    process = Process(popen, port)

    def answers() -> bool:
        try:
            with process.connect() as sock:
                sock.sendall(b"GET /w/one/ HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n")
                return sock.recv(100).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    try:
        wait_for(answers, seconds=20, what="the gateway")
        yield process
    finally:
        popen.terminate()
        popen.wait(10)


class Pour:
    """A server's answer that is sent as fast as it is taken, and counted."""

    def __init__(self, head: bytes, size: int = SIZE) -> None:
        self.head, self.size, self.sent = head, size, 0

    def __call__(self, talk: Any) -> None:
        talk.wfile.write(self.head)
        try:
            while self.sent < self.size:
                self.sent += talk.connection.send(PIECE[: self.size - self.sent])
        except OSError:
            pass  # the reader has had enough


class Swallow:
    """Takes a request's body once it may, counts it, answers at its end."""

    def __init__(self, end: Callable[[int, bytes], bool]) -> None:
        self.end, self.got, self.may = end, 0, threading.Event()

    def __call__(self, talk: Any) -> None:
        self.may.wait(30)
        last = b""
        while not self.end(self.got, last):
            piece = talk.rfile.read1(MB)
            if not piece:
                return
            self.got += len(piece)
            last = (last + piece)[-5:]
        talk.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def read_all(sock: socket.socket) -> int:
    total, buffer = 0, bytearray(MB)
    while count := sock.recv_into(buffer):
        total += count
    return total


def send_until_stuck(sock: socket.socket) -> int:
    """How many bytes the other end takes before it takes no more for a second."""
    sock.settimeout(1)
    sent = 0
    try:
        while sent < SIZE:
            sent += sock.send(PIECE)
    except TimeoutError:
        pass
    return sent


def settled(count: Callable[[], int]) -> int:
    """A number once it has stopped growing for a second."""
    before = -1
    while count() != before:
        before = count()
        time.sleep(1)
    return before


class TestHalfAGigabyte:
    @pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n" % SIZE, b""])
    def test_comes_down_without_growing_the_gateway(self, gate: Process, behind: Behind, framing: bytes) -> None:
        behind.takes[b"/big"] = Pour(b"HTTP/1.1 200 OK\r\n" + framing + b"Connection: close\r\n\r\n")
        before = gate.resident()
        with gate.connect() as sock:
            sock.sendall(b"GET /w/one/big HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n")
            assert SIZE <= read_all(sock) <= SIZE * 1.01
        assert gate.peak() - before < MAY_GROW

    @pytest.mark.parametrize("chunked", [False, True])
    def test_goes_up_without_growing_the_gateway(self, gate: Process, behind: Behind, chunked: bool) -> None:
        def end(got: int, last: bytes) -> bool:
            return last == b"0\r\n\r\n" if chunked else got >= SIZE

        behind.takes[b"/big"] = swallow = Swallow(end)
        swallow.may.set()
        framing = b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % SIZE
        before = gate.resident()
        with gate.connect() as sock:
            sock.sendall(b"PUT /w/one/big HTTP/1.1\r\n" + HEAD + framing + b"\r\n")
            for _ in range(SIZE // len(PIECE)):
                sock.sendall(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)
            sock.sendall(b"0\r\n\r\n" if chunked else b"")
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
        assert SIZE <= swallow.got <= SIZE * 1.01
        assert gate.peak() - before < MAY_GROW

    def test_passes_a_socket_both_ways_without_growing_the_gateway(self, gate: Process, behind: Behind) -> None:
        def echo(talk: Any) -> None:
            talk.wfile.write(SWITCHED)
            while piece := talk.rfile.read1(MB):
                talk.connection.sendall(piece)

        behind.takes[b"/ws"] = echo
        before = gate.resident()
        with gate.connect() as sock:
            sock.sendall(b"GET /w/one/ws HTTP/1.1\r\n" + HEAD + UPGRADE + b"\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 101")
            sender = threading.Thread(target=lambda: [sock.sendall(PIECE) for _ in range(SIZE // len(PIECE))])
            sender.start()
            got, buffer = 0, bytearray(MB)
            while got < SIZE:
                got += sock.recv_into(buffer)
            sender.join()
        assert gate.peak() - before < MAY_GROW


class TestWhoDoesNotRead:
    """Holds up who sends to him, and nothing else."""

    def test_a_client_holds_up_the_server(self, gate: Process, behind: Behind) -> None:
        behind.takes[b"/big"] = pour = Pour(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        with gate.connect() as sock:
            sock.sendall(b"GET /w/one/big HTTP/1.1\r\n" + HEAD + b"\r\n")
            assert settled(lambda: pour.sent) < MAY_WAIT
            with gate.connect() as other:
                other.sendall(b"GET /w/one/ HTTP/1.1\r\n" + HEAD + b"\r\n")
                assert other.recv(100).startswith(b"HTTP/1.1 200")

    def test_a_server_holds_up_the_client(self, gate: Process, behind: Behind) -> None:
        behind.takes[b"/big"] = swallow = Swallow(lambda got, last: False)
        with gate.connect() as sock:
            sock.sendall(b"PUT /w/one/big HTTP/1.1\r\n" + HEAD + b"Content-Length: %d\r\n\r\n" % SIZE)
            assert send_until_stuck(sock) < MAY_WAIT
        swallow.may.set()

    def test_a_client_of_a_socket_holds_up_the_server(self, gate: Process, behind: Behind) -> None:
        behind.takes[b"/ws"] = pour = Pour(SWITCHED)
        with gate.connect() as sock:
            sock.sendall(b"GET /w/one/ws HTTP/1.1\r\n" + HEAD + UPGRADE + b"\r\n")
            assert settled(lambda: pour.sent) < MAY_WAIT

    def test_a_server_of_a_socket_holds_up_the_client(self, gate: Process, behind: Behind) -> None:
        swallow = Swallow(lambda got, last: False)

        def switch(talk: Any) -> None:
            talk.wfile.write(SWITCHED)
            swallow(talk)

        behind.takes[b"/ws"] = switch
        with gate.connect() as sock:
            sock.sendall(b"GET /w/one/ws HTTP/1.1\r\n" + HEAD + UPGRADE + b"\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 101")
            assert send_until_stuck(sock) < MAY_WAIT
        swallow.may.set()
