"""A stretch of bad network between the proxy and the web processes, on the path that every agent's exchange takes."""

import http.client
import random
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: what happens to one exchange in a hundred, while the network is bad; the rest passes
DROPPED, ANSWER_LOST, TWICE, LATE_COPY = 8, 8, 8, 6
LATE_S = (0.5, 4.0)


class LossyRoad:
    """Serves on `port` of this machine and passes on to the web processes. `bad`: while set it loses, repeats and
    delays; what it did is counted in `done`."""

    def __init__(self, web_ports: list[int], *, seed: int) -> None:
        self.bad = threading.Event()
        self.done: Counter[str] = Counter()
        self.web_ports = web_ports
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        road = self

        class Passing(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                road.carry(self, self.rfile.read(int(self.headers.get("Content-Length", "0"))))

            def log_message(self, *_: Any) -> None:
                """Quiet: the report counts."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Passing)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="lossy-road", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def carry(self, asked: BaseHTTPRequestHandler, body: bytes) -> None:
        """One exchange, with whatever befalls it."""
        fate = self._fate()
        self.done[fate] += 1
        headers = dict(asked.headers.items())
        if fate == "request lost":
            asked.close_connection = True
            return
        if fate == "late copy":
            delay = self._random.uniform(*LATE_S)
            threading.Timer(delay, self._pass_quietly, (asked.path, body, headers)).start()
        if fate == "sent twice":
            self._pass_quietly(asked.path, body, headers)
        try:
            status, answered, answer = self._pass(asked.path, body, headers)
        except (OSError, http.client.HTTPException):
            asked.close_connection = True
            return
        if fate == "answer lost":
            asked.close_connection = True
            return
        try:
            asked.send_response(status)
            asked.send_header("Content-Type", answered)
            asked.send_header("Content-Length", str(len(answer)))
            asked.end_headers()
            asked.wfile.write(answer)
        except OSError:
            asked.close_connection = True

    def _fate(self) -> str:
        with self._lock:
            drawn = self._random.randrange(100)
        fates = (
            ("request lost", DROPPED),
            ("answer lost", ANSWER_LOST),
            ("sent twice", TWICE),
            ("late copy", LATE_COPY),
        )
        for name, share in fates if self.bad.is_set() else ():
            if drawn < share:
                return name
            drawn -= share
        return "passed"

    def _pass(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, str, bytes]:
        """To whichever web process takes it, as the proxy does with everything else."""
        with self._lock:
            ports = self._random.sample(self.web_ports, len(self.web_ports))
        for number, port in enumerate(ports, start=1):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request("POST", path, body, headers)
            except ConnectionRefusedError:
                if number == len(ports):
                    raise
                continue
            answer = connection.getresponse()
            said = answer.read()
            connection.close()
            return answer.status, answer.headers.get("Content-Type", ""), said
        raise AssertionError("there is no web process")

    def _pass_quietly(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        try:
            self._pass(path, body, headers)
        except (OSError, http.client.HTTPException):
            self.done["copy that found nobody"] += 1
