"""What a workspace's server sees of a request, and a client of its answer, byte by byte."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from scheduling.nodes.forward import NotReachable
from tests.integration.gateway_process import fixed_table
from tests.integration.gateway_world import SERVER_TOKEN, Behind, Reply, Running, ok, running_gateway, server_behind
from tests.services import free_port, wait_for
from workspaces.gateway import server
from workspaces.gateway.routes import Route, Table

COOKIE, TOKEN = "a-good-cookie", "berth_a-good-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def behind() -> Iterator[Behind]:
    with server_behind() as server:
        yield server


@pytest.fixture(scope="module")
def gate(behind: Behind) -> Iterator[Running]:
    table = fixed_table(cookie=COOKIE, token=TOKEN)
    dark, lost = Route("dark", 1, "here", "a2", SERVER_TOKEN), Route("lost", 1, "here", "a3", SERVER_TOKEN)
    table = replace(table, routes={**table.routes, "dark": dark, "lost": lost})

    async def load() -> Table:
        return table

    targets = {"a1": ("127.0.0.1", behind.port), "a2": ("127.0.0.1", free_port())}
    with running_gateway(load=load, targets=targets) as running:
        yield running


@pytest.fixture(autouse=True)
def forget(behind: Behind) -> None:
    behind.seen.clear()
    behind.says.clear()


def browse(gate: Running, target: str = "/", **asked: Any) -> Reply:
    """As alice's browser, in her workspace `one`."""
    headers = [("Cookie", f"berth_gate={COOKIE}"), *dict(asked.pop("headers", {})).items()]
    return gate.ask(target, host=gate.host("one"), headers=headers, **asked)


class TestWhatTheServerSees:
    def test_the_path_and_query_arrive_byte_for_byte(self, gate: Running, behind: Behind) -> None:
        for target in ("/files/a%2Fb%20c/%C3%BC//x/../y?q=%2F&q=a+b&&=;", "/?", "/a;b=c?x=http://y/", "/%2e%2e/z"):
            assert browse(gate, target).status == 200
            assert behind.seen[-1].line == f"GET {target} HTTP/1.1".encode()
            assert gate.ask("/w/one" + target, headers=BEARER).status == 200
            assert behind.seen[-1].line == f"GET {target} HTTP/1.1".encode()

    def test_it_gets_its_own_token_and_not_the_clients(self, gate: Running, behind: Behind) -> None:
        browse(gate, headers={"Authorization": "token stolen"})
        assert behind.seen[-1].all(b"authorization") == [b"token " + SERVER_TOKEN.encode()]
        gate.ask("/w/one/api", headers=BEARER)
        assert behind.seen[-1].all(b"authorization") == [b"token " + SERVER_TOKEN.encode()]
        assert TOKEN.encode() not in repr(behind.seen[-1]).encode()

    def test_an_api_token_in_the_address_stays_here(self, gate: Running, behind: Behind) -> None:
        for asked, seen in (("/x?token=berth_abc", "/x"), ("/x?a=1&token=berth_abc&b=%2F", "/x?a=1&b=%2F")):
            assert gate.ask("/w/one" + asked, headers=BEARER).status == 200
            assert behind.seen[-1].line == f"GET {seen} HTTP/1.1".encode()

    def test_cookies_of_the_portal_and_the_gateway_are_stripped_and_others_stay(
        self, gate: Running, behind: Behind
    ) -> None:
        portal = "sessionid=s; csrftoken=c; messages=m; __Host-sessionid=hs; __Host-csrftoken=hc; __Host-messages=hm"
        asked = [("Cookie", f"_xsrf=2|a|b; {portal}; berth_gate={COOKIE}"), ("Cookie", "theme=dark; SESSIONID=x")]
        gate.ask("/", host=gate.host("one"), headers=asked)
        assert behind.seen[-1].all(b"cookie") == [b"_xsrf=2|a|b; theme=dark"]

    def test_cookies_never_reach_it_by_the_programs_way(self, gate: Running, behind: Behind) -> None:
        gate.ask("/w/one/", headers={**BEARER, "Cookie": "sessionid=s; _xsrf=1"})
        assert behind.seen[-1].all(b"cookie") == []

    def test_who_asks_is_said_by_the_gateway_alone(self, gate: Running, behind: Behind) -> None:
        lies = {
            "X-Forwarded-For": "6.6.6.6",
            "X-Forwarded-Proto": "gopher",
            "X-Real-IP": "6.6.6.6",
            "Forwarded": "for=6",
        }
        browse(gate, headers={**lies, "X-Forwarded-Prefix": "/evil", "X-Scheme": "https"})
        seen = behind.seen[-1]
        assert seen.all(b"x-forwarded-for") == [b"127.0.0.1"]
        assert seen.all(b"x-forwarded-proto") == [b"http"]
        assert seen.all(b"x-forwarded-host") == seen.all(b"host") == [gate.host("one").encode()]
        assert not {b"x-real-ip", b"forwarded", b"x-forwarded-prefix", b"x-scheme"} & {name for name, _ in seen.headers}

    def test_headers_between_neighbours_are_not_passed_on(self, gate: Running, behind: Behind) -> None:
        browse(
            gate, headers={"Connection": "x-secret, keep-alive", "X-Secret": "1", "TE": "trailers", "Keep-Alive": "9"}
        )
        names = {name for name, _ in behind.seen[-1].headers}
        assert not {b"connection", b"x-secret", b"te", b"keep-alive"} & names

    def test_bodies_arrive_whole_with_a_length_or_in_chunks(self, gate: Running, behind: Behind) -> None:
        body = bytes(range(256)) * 2000
        origin = {"Origin": gate.origin("one")}
        assert browse(gate, "/api/contents/a", method="PUT", headers=origin, body=body).status == 200
        assert behind.seen[-1].body == body
        assert behind.seen[-1].one(b"content-length") == str(len(body)).encode()
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(body), body) for _ in range(3)) + b"0\r\n\r\n"
        head = f"POST /w/one/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        gate.raw(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks, enough=b"hello")
        assert behind.seen[-1].body == body * 3

    def test_an_expect_100_is_answered_and_the_body_follows(self, gate: Running, behind: Behind) -> None:
        head = f"PUT /w/one/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as sock:
            sock.sendall(head.encode() + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 100")
            sock.sendall(b"body")
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        assert behind.seen[-1].body == b"body"

    def test_an_offer_of_another_protocol_costs_neither_the_body_nor_what_comes_after(
        self, gate: Running, behind: Behind
    ) -> None:
        """Java's HttpClient and `curl --http2` offer h2c with every request on a plain connection."""
        offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        common = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode() + offer
        for size, end in (
            (b"Content-Length: 4\r\n\r\n", b"body"),
            (b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\nbody\r\n0\r\n\r\n"),
        ):
            behind.seen.clear()
            post = b"POST /w/one/a HTTP/1.1\r\n" + common + size
            after = b"GET /w/one/b HTTP/1.1\r\n" + common + b"\r\n"
            for pieces in (
                [post + end + after],
                [post, end + after],
                [post[:150], post[150:] + end[:2], end[2:], after],
            ):
                behind.seen.clear()
                with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as sock:
                    for piece in pieces:
                        sock.sendall(piece)
                        time.sleep(0.05)
                    wait_for(lambda: len(behind.seen) == 2, seconds=10, what="both requests to arrive")
                first, second = behind.seen
                assert (first.line, first.body) == (b"POST /a HTTP/1.1", b"body")
                assert (second.line, second.body) == (b"GET /b HTTP/1.1", b"")
                assert not {b"upgrade", b"connection", b"http2-settings"} & {name for name, _ in first.headers}

    def test_connections_to_it_are_kept_for_the_next_request(self, gate: Running, behind: Behind) -> None:
        before = behind.connections
        for _ in range(20):
            assert browse(gate).status == 200
        assert behind.connections - before <= 1

    def test_a_kept_connection_that_died_is_replaced_silently(self, gate: Running, behind: Behind) -> None:
        def answer_once_and_hang_up(talk: Any) -> None:
            talk.wfile.write(ok(b"bye"))

        behind.says[b"/bye"] = answer_once_and_hang_up
        for _ in range(10):
            assert browse(gate, "/bye").body == b"bye"
            assert browse(gate, "/").body == b"hello"


class TestWhatTheClientSees:
    def test_the_answer_passes_unchanged(self, gate: Running, behind: Behind) -> None:
        body = bytes(range(256)) * 10
        behind.says[b"/x"] = ok(body, b"Content-Encoding: gzip", b'ETag: "a"', b"X-Two: 1", b"X-Two: 2")
        reply = browse(gate, "/x")
        assert (reply.status, reply.body) == (200, body)
        assert reply.one("content-encoding") == "gzip"
        assert reply.all("x-two") == ["1", "2"]
        assert reply.one("content-length") == str(len(body))

    def test_errors_and_redirects_are_the_servers_own_and_not_followed(self, gate: Running, behind: Behind) -> None:
        behind.says[b"/e"] = b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 3\r\n\r\ntea"
        behind.says[b"/r"] = b"HTTP/1.1 302 Found\r\nLocation: /lab?x=1\r\nContent-Length: 0\r\n\r\n"
        behind.says[b"/n"] = b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 99\r\n\r\n'
        assert (browse(gate, "/e").status, browse(gate, "/e").body) == (418, b"tea")
        assert (browse(gate, "/r").status, browse(gate, "/r").one("location")) == (302, "/lab?x=1")
        assert browse(gate, "/n").status == 304
        assert browse(gate, "/").status == 200

    def test_locations_never_show_the_inside_address(self, gate: Running, behind: Behind) -> None:
        for inside in (f"http://127.0.0.1:{behind.port}/tree?a=b", f"//127.0.0.1:{behind.port}/tree?a=b"):
            behind.says[b"/r"] = b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % inside.encode()
            assert browse(gate, "/r").one("location") == gate.origin("one") + "/tree?a=b"
            away = gate.ask("/w/one/r", headers=BEARER).one("location")
            assert away == f"http://localhost:{gate.port}/w/one/tree?a=b"

    def test_programs_get_locations_below_their_prefix(self, gate: Running, behind: Behind) -> None:
        behind.says[b"/r"] = b"HTTP/1.1 302 Found\r\nLocation: /lab\r\nContent-Length: 0\r\n\r\n"
        assert gate.ask("/w/one/r", headers=BEARER).one("location") == "/w/one/lab"

    def test_it_may_set_cookies_of_its_own_host_only_and_none_of_ours(self, gate: Running, behind: Behind) -> None:
        cookies = [
            b"_xsrf=1; Path=/", b"a=1; Domain=localhost", b"a=1; path=/;DOMAIN = .localhost", b"sessionid=x",
            b"__Host-sessionid=x; Secure; Path=/", b"csrftoken=x", b"berth_gate=x; Path=/", b"__Host-berth_gate=y",
            b"SessionID=x", b"messages=1", b"fine=2; HttpOnly",
        ]  # fmt: skip
        behind.says[b"/c"] = ok(b"", *(b"Set-Cookie: " + cookie for cookie in cookies))
        assert browse(gate, "/c").all("set-cookie") == ["_xsrf=1; Path=/", "fine=2; HttpOnly"]
        assert gate.ask("/w/one/c", headers=BEARER).all("set-cookie") == []

    def test_the_servers_token_leaves_in_no_header(self, gate: Running, behind: Behind) -> None:
        token = SERVER_TOKEN.encode()
        behind.says[b"/t"] = ok(
            b"", b"X-Echo: token " + token, b"Location: /?token=" + token, b"Set-Cookie: t=" + token
        )
        assert SERVER_TOKEN not in repr(browse(gate, "/t").headers)

    def test_it_cannot_speak_for_its_neighbours(self, gate: Running, behind: Behind) -> None:
        behind.says[b"/n"] = ok(
            b"", b'Clear-Site-Data: "cookies"', b"Strict-Transport-Security: max-age=9", b'Alt-Svc: h3=":1"',
            b"Connection: x-hop", b"X-Hop: 1", b"Keep-Alive: 5",
        )  # fmt: skip
        names = {name for name, _ in browse(gate, "/n").headers}
        assert not {"clear-site-data", "strict-transport-security", "alt-svc", "x-hop", "keep-alive"} & names

    def test_answers_without_a_length_end_where_the_server_ends(self, gate: Running, behind: Behind) -> None:
        behind.says[b"/eof"] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end"
        behind.says[b"/chunks"] = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n3\r\nfgh\r\n0\r\n\r\n"
        )
        assert browse(gate, "/eof").body == b"until the end"
        assert browse(gate, "/chunks").body == b"abcdefgh"

    def test_head_has_the_length_and_no_body(self, gate: Running, behind: Behind) -> None:
        behind.says[b"/h"] = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
        reply = browse(gate, "/h", method="HEAD")
        assert (reply.status, reply.one("content-length"), reply.body) == (200, "1234", b"")
        assert browse(gate, "/").body == b"hello"

    def test_early_hints_are_skipped_and_the_answer_follows(self, gate: Running, behind: Behind) -> None:
        behind.says[b"/e"] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok(b"real")
        reply = browse(gate, "/e")
        assert (reply.status, reply.body, reply.all("link")) == (200, b"real", [])

    def test_a_stream_arrives_piece_by_piece(self, gate: Running, behind: Behind) -> None:
        more = threading.Event()

        def stream(talk: Any) -> None:
            talk.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
            more.wait(10)
            talk.wfile.write(b"data: 2\n\n")

        behind.says[b"/events"] = stream
        with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as sock:
            head = f"GET /events HTTP/1.1\r\nHost: {gate.host('one')}\r\nCookie: berth_gate={COOKIE}\r\n\r\n"
            sock.sendall(head.encode())
            got = b""
            while b"data: 1" not in got:
                got += sock.recv(1000)
            more.set()
            while b"data: 2" not in got:
                got += sock.recv(1000)

    def test_half_an_answer_is_never_taken_for_a_whole_one(self, gate: Running, behind: Behind) -> None:
        def break_off(talk: Any) -> None:
            talk.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")

        behind.says[b"/half"] = break_off
        head = f"GET /half HTTP/1.1\r\nHost: {gate.host('one')}\r\nCookie: berth_gate={COOKIE}\r\n\r\n"
        assert not gate.raw(head.encode()).endswith(b"0\r\n\r\n")

    def test_the_server_is_let_go_when_the_client_leaves(self, gate: Running, behind: Behind) -> None:
        left = threading.Event()

        def wait_for_the_end(talk: Any) -> None:
            talk.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            talk.rfile.read()
            left.set()

        behind.says[b"/forever"] = wait_for_the_end
        head = f"GET /forever HTTP/1.1\r\nHost: {gate.host('one')}\r\nCookie: berth_gate={COOKIE}\r\n\r\n"
        gate.raw(head.encode(), enough=b"200 OK")
        assert left.wait(5)
        wait_for(lambda: len(gate.gateway.passages) == 0, seconds=5, what="the passage to end")


class TestWhenTheServerFails:
    @pytest.mark.parametrize("workspace", ["dark", "lost"])
    def test_one_that_cannot_be_reached_gives_502_with_a_sentence(self, gate: Running, workspace: str) -> None:
        reply = gate.ask(f"/w/{workspace}/api", headers=BEARER)
        assert reply.status == 502
        assert reply.detail == (
            "The workspace's server cannot be reached. It may just be stopping; look at it in the portal."
        )

    @pytest.mark.parametrize(
        "nonsense",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", b"",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-Big: " + b"x" * 300_000 + b"\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: tcp\r\nConnection: upgrade\r\n\r\n",
        ],
    )  # fmt: skip
    def test_one_that_talks_nonsense_gives_502_with_a_sentence(
        self, gate: Running, behind: Behind, nonsense: bytes
    ) -> None:
        def talk_nonsense(talk: Any) -> None:
            talk.wfile.write(nonsense)

        behind.says[b"/odd"] = talk_nonsense
        reply = browse(gate, "/odd")
        assert reply.status == 502
        assert reply.detail.endswith("Try again.")
        assert browse(gate, "/").status == 200


class TestRequestsThatSmuggle:
    HEAD = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()

    @pytest.mark.parametrize(
        "framing",
        [
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            b"Content-Length: 5\r\nContent-Length: 6\r\n",
            b"Transfer-Encoding: chunked, identity\r\n",
            b"Transfer-Encoding: xchunked\r\n",
            b"Transfer-Encoding : chunked\r\n",
            b"Content-Length: +5\r\n",
            b"Content-Length: 5\r\n X: folded\r\n",
        ],
    )
    def test_two_readings_of_a_body_are_refused(self, gate: Running, behind: Behind, framing: bytes) -> None:
        smuggled = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
        answer = gate.raw(b"POST /w/one/x HTTP/1.1\r\n" + self.HEAD + framing + b"\r\n" + smuggled)
        assert answer.startswith(b"HTTP/1.1 400")
        assert not any(b"smuggled" in seen.line for seen in behind.seen)

    def test_each_request_on_a_connection_is_checked_again(self, gate: Running, behind: Behind) -> None:
        good = b"GET /w/one/a HTTP/1.1\r\n" + self.HEAD + b"\r\n"
        bad = b"GET /w/one/b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = gate.raw(good + bad)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 401" in answer
        assert [seen.line for seen in behind.seen] == [b"GET /a HTTP/1.1"]

    def test_a_head_may_not_grow_without_bound(self, gate: Running) -> None:
        answer = gate.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 400_000)
        assert answer.startswith(b"HTTP/1.1 431") or answer == b""

    @pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
    def test_methods_that_echo_or_tunnel_are_refused(self, gate: Running, behind: Behind, method: str) -> None:
        answer = gate.raw(f"{method} /w/one/ HTTP/1.1\r\n".encode() + self.HEAD + b"Connection: close\r\n\r\n")
        assert answer.startswith((b"HTTP/1.1 405", b"HTTP/1.1 400"))
        assert behind.seen == []

    def test_an_upgrade_that_is_no_websocket_stays_a_plain_request(self, gate: Running, behind: Behind) -> None:
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
        answer = gate.raw(b"GET /w/one/ HTTP/1.1\r\n" + self.HEAD + upgrade + b"\r\n", enough=b"hello")
        assert answer.startswith(b"HTTP/1.1 200")
        assert not {b"upgrade", b"http2-settings", b"connection"} & {name for name, _ in behind.seen[-1].headers}


def test_health_is_told_on_any_host(gate: Running) -> None:
    assert gate.ask("/.berth/healthz").status == 200
    assert gate.ask("/.berth/healthz", host=gate.host("one")).body == b'{"status": "ok"}'


class TestSlowClients:
    """They get a few seconds for a request's head, and cannot hold the door open."""

    @pytest.fixture(autouse=True)
    def hurried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server, "HEAD_S", 0.3)

    def test_one_that_says_nothing_is_shown_out(self, gate: Running) -> None:
        assert gate.raw(b"").startswith(b"HTTP/1.1 408")

    def test_one_that_never_ends_its_head_is_shown_out(self, gate: Running) -> None:
        assert gate.raw(b"GET / HTTP/1.1\r\nHost: loc").startswith(b"HTTP/1.1 408")

    def test_so_is_one_that_drips_its_second_head(self, gate: Running) -> None:
        first = f"GET /w/one/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        answer = gate.raw(first + b"GET /w/one/ HTTP/1.1\r\nX: ")
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 408" in answer

    def test_one_that_waits_for_a_slow_answer_is_not_slow(self, gate: Running, behind: Behind) -> None:
        def think(talk: Any) -> None:
            time.sleep(1)
            talk.wfile.write(ok(b"thought"))

        behind.says[b"/think"] = think
        assert gate.ask("/w/one/think", headers=BEARER).body == b"thought"


class DialOnly:
    """A forwarder as in a cluster: it hands out streams, never an address."""

    def __init__(self, port: int) -> None:
        self.port, self.dials = port, 0

    def address(self, *, node: str, allocation: str) -> tuple[str, int] | None:
        return None

    async def dial(self, *, node: str, allocation: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.dials += 1
        if allocation != "a1":
            raise NotReachable(allocation)
        return await asyncio.open_connection("127.0.0.1", self.port)


def test_streams_that_a_forwarder_dials_serve_as_well(behind: Behind) -> None:
    forwarder = DialOnly(behind.port)

    async def load() -> Table:
        return fixed_table(cookie=COOKIE, token=TOKEN)

    behind.says[b"/big"] = ok(b"x" * 5_000_000)
    with running_gateway(load=load, targets={}, forwarder=forwarder) as gate:
        for _ in range(5):
            assert len(gate.ask("/w/one/big", headers=BEARER).body) == 5_000_000
        body = b"y" * 3_000_000
        assert gate.ask("/w/one/up", method="PUT", headers=BEARER, body=body).status == 200
        assert behind.seen[-1].body == body
    assert forwarder.dials == 1
