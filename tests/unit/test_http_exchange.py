"""The agent's side of the exchange over HTTP: what it sends, whom it trusts, and what it makes of each answer."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scheduling.nodes.driver import ContainerSpec
from scheduling.nodes.exchange import Desired, DesiredPart, HttpExchange, Report
from scheduling.nodes.portal_client import BadAddress, NotAnswered, NotLetIn, PortalClient
from scheduling.nodes.wire import encode
from tests.certificates import Certificate, make_certificate

PARTS = (DesiredPart(ContainerSpec("7", job="1", team="red", image="i"), run=True, launched=False),)
TOLD = Desired(version=3, epoch=2, parts=PARTS, lease_s=30.0)


class Portal:
    """`answers`: (status, body) of each request in turn, the last one for all that follow."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = [(200, encode(TOLD))]
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.connections = 0
        self.hang_up = False
        self.port = 0

    def url(self, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}"


@contextmanager
def serving(certificate: Certificate | None = None) -> Iterator[Portal]:
    portal = Portal()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            portal.connections += 1
            super().setup()

        def do_POST(self) -> None:
            portal.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            portal.keys.append(self.headers["Authorization"])
            status, body = portal.answers.pop(0) if len(portal.answers) > 1 else portal.answers[0]
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = portal.hang_up

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    portal.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield portal
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def portal() -> Iterator[Portal]:
    with serving() as made:
        yield made


@pytest.fixture
def exchange(portal: Portal) -> Iterator[HttpExchange]:
    client = PortalClient(portal.url())
    yield HttpExchange(client, key="node_k", agent="a1", start=4)
    client.close()


def report(held: Desired | None = None) -> Report:
    return Report(
        node="n1", boot_id="b", held_epoch=held.epoch if held else 0, held_version=held.version if held else 0
    )


def test_it_says_who_speaks_and_counts_its_reports_on_one_connection(portal: Portal, exchange: HttpExchange):
    assert [exchange(report()), exchange(report())] == [TOLD, TOLD]
    assert [(said["agent"], said["start"], said["sequence"]) for said in portal.asked] == [("a1", 4, 1), ("a1", 4, 2)]
    assert portal.keys == ["Bearer node_k"] * 2
    assert portal.connections == 1


def test_an_unchanged_state_keeps_the_parts_that_were_told(portal: Portal, exchange: HttpExchange):
    exchange(report())
    portal.answers = [(200, {"version": 3, "epoch": 2, "lease_s": 30.0, "unchanged": True})]
    assert exchange(report(TOLD)) == TOLD
    assert portal.asked[-1]["held_version"] == 3


def test_what_was_not_taken_is_asked_for_again_whole(portal: Portal, exchange: HttpExchange):
    exchange(report())
    exchange(report(Desired(version=9, epoch=1)))
    assert "held_version" not in portal.asked[-1]


def test_a_connection_that_the_portal_closed_is_made_anew(portal: Portal, exchange: HttpExchange):
    portal.hang_up = True
    for _ in range(3):
        assert exchange(report()) == TOLD
    assert portal.connections == 3


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (401, {"code": "authentication_failed", "detail": "Join again."}, NotLetIn, "Join again."),
        (409, {"code": "second-agent", "detail": "Another agent."}, NotLetIn, "Another agent."),
        (503, {"code": "unavailable", "detail": "The database is away."}, NotAnswered, "The database is away."),
        (502, b"<html>Bad gateway</html>", NotAnswered, "502"),
        (200, b"<html>Hello</html>", NotAnswered, "not an answer of a portal"),
        (200, {"version": "3"}, NotAnswered, "Desired.version must be a whole number."),
        (200, [], NotAnswered, "cannot be read"),
        (200, {"version": 8, "unchanged": True}, NotAnswered, "unchanged"),
    ],
)
def test_every_other_answer_is_one_sentence(
    portal: Portal, exchange: HttpExchange, status: int, body: Any, error: type[Exception], words: str
):
    portal.answers = [(status, body)]
    with pytest.raises(error) as refused:
        exchange(report())
    assert words in str(refused.value)
    assert isinstance(refused.value, ConnectionError)


def test_a_portal_that_is_away_is_no_answer():
    with serving() as portal:
        url = portal.url()
    with pytest.raises(NotAnswered, match="does not answer"):
        PortalClient(url).post("/x", {})


# -- trust ------------------------------------------------------------------------------------------------------------
Make = Callable[..., Certificate]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda *names: make_certificate(tmp_path, *names)


def test_a_certificate_is_trusted_by_the_ca_file_alone(make: Make):
    certificate = make()
    with serving(certificate) as portal:
        assert PortalClient(portal.url("https"), ca_file=certificate.certificate).post("/x", {})["version"] == 3
        with pytest.raises(NotAnswered, match="certificate"):
            PortalClient(portal.url("https")).post("/x", {})
    assert portal.asked == [{}]


def test_a_certificate_for_another_name_is_refused(make: Make):
    certificate = make("portal.example.org")
    with serving(certificate) as portal:
        with pytest.raises(NotAnswered, match=r"[Hh]ostname|IP address"):
            PortalClient(portal.url("https"), ca_file=certificate.certificate).post("/x", {})
    assert portal.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://portal.example.org",
        "http://10.0.0.1:8000",
        "portal.example.org",
        "https://",
        "https://u:p@h",
        "https://h:x",
    ],
)
def test_an_address_that_cannot_be_trusted_is_refused(url: str):
    with pytest.raises(BadAddress):
        PortalClient(url)


def test_a_ca_file_that_is_none_is_named(tmp_path: Path):
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    with pytest.raises(BadAddress, match=r"ca\.pem"):
        PortalClient("https://localhost", ca_file=path)
