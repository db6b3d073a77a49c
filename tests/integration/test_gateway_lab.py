"""The real JupyterLab behind a real gateway: pages, file browser, kernels and terminals, by browser and by program."""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from jupyter_kernel_client import JupyterKernelClient
from websockets.sync.client import connect

from tests.integration.gateway_world import Running, running_gateway
from tests.integration.test_lab_start import TOKEN as SERVER_TOKEN
from tests.integration.test_lab_start import Lab
from workspaces.gateway.routes import Key, Route, Table, cookie_key, token_key

COOKIE, TOKEN = "a-good-cookie", "berth_a-good-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    started = Lab(tmp_path_factory.mktemp("home"))
    yield started.wait()
    started.stop()


@pytest.fixture(scope="module")
def gate(lab: Lab) -> Iterator[Running]:
    keys = {
        cookie_key(sha256(COOKIE.encode()).hexdigest()): Key(user=1, workspace="one"),
        token_key(sha256(TOKEN.encode()).hexdigest()): Key(user=1),
    }

    async def load() -> Table:
        return Table(routes={"one": Route("one", 1, "here", "a1", SERVER_TOKEN)}, keys=keys)

    with running_gateway(load=load, targets={"a1": ("127.0.0.1", lab.port)}) as running:
        yield running


def browse(gate: Running, target: str, *, method: str = "GET", body: Any = None, **headers: str) -> Any:
    """As JupyterLab's own scripts do it."""
    own = {"Cookie": f"berth_gate={COOKIE}", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    own |= {"Origin": gate.origin("one")} if method != "GET" else {}
    data = None if body is None else json.dumps(body).encode()
    return gate.ask(target, method=method, host=gate.host("one"), headers=own | headers, body=data)


class TestABrowser:
    def test_gets_jupyterlabs_page_and_all_its_files_without_the_token(self, gate: Running) -> None:
        page = browse(gate, "/lab", **{"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"})
        assert page.status == 200
        assert b"JupyterLab" in page.body
        files = set(re.findall(rb'(?:src|href)="(/[^"]+)"', page.body))
        assert files
        replies = [page, *(browse(gate, name.decode()) for name in files), browse(gate, "/lab/api/settings"),
                   browse(gate, "/api/status"), browse(gate, "/api/me")]  # fmt: skip
        for reply in replies:
            assert reply.status == 200
            assert SERVER_TOKEN.encode() not in reply.body
            assert SERVER_TOKEN not in repr(reply.headers)

    def test_finds_the_root_redirected_within_its_own_host(self, gate: Running) -> None:
        reply = browse(gate, "/")
        assert reply.status == 302
        assert (reply.one("location") or "").startswith(("/lab", gate.origin("one") + "/lab"))

    def test_uploads_renames_and_downloads_files(self, gate: Running, lab: Lab) -> None:
        content = {"type": "file", "format": "text", "content": "größer\n" * 1000}
        assert browse(gate, "/api/contents/a%20b%2523.txt", method="PUT", body=content).status == 201
        assert (lab.home / "a b%23.txt").read_text() == content["content"]
        renamed = browse(gate, "/api/contents/a%20b%2523.txt", method="PATCH", body={"path": "c.txt"})
        assert renamed.status == 200
        assert browse(gate, "/files/c.txt").body.decode() == content["content"]
        assert browse(gate, "/api/contents/c.txt", method="DELETE").status == 204
        assert not (lab.home / "c.txt").exists()

    def test_works_in_a_terminal(self, gate: Running) -> None:
        name = json.loads(browse(gate, "/api/terminals", method="POST", body={}).body)["name"]
        sock = socket.create_connection(("127.0.0.1", gate.port))
        with connect(
            f"ws://{gate.host('one')}/terminals/websocket/{name}", sock=sock, origin=gate.origin("one"),  # type: ignore[arg-type]
            additional_headers={"Cookie": f"berth_gate={COOKIE}"}, proxy=None,
        ) as ws:  # fmt: skip
            ws.send(json.dumps(["stdin", "echo $((6*7))-answers; env | grep -c BERTH_TOKEN\r"]))
            printed = ""
            while "42-answers" not in printed:
                kind, *rest = json.loads(ws.recv(20))
                printed += rest[0] if kind == "stdout" else ""
        assert browse(gate, f"/api/terminals/{name}", method="DELETE").status == 204


class TestAProgramThatNobodyHereWrote:
    def test_makes_a_kernel_and_executes_code(self, gate: Running) -> None:
        with JupyterKernelClient(
            server_url=f"http://localhost:{gate.port}/w/one", token=None, headers=dict(BEARER)
        ) as kernel:
            reply = kernel.execute("print(6*7)")
            assert reply["status"] == "ok"
            assert reply["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "42\n"}]

    def test_gets_in_with_the_token_as_its_own_parameter_too(self, gate: Running, lab: Lab) -> None:
        kernel_client = JupyterKernelClient(
            server_url=f"http://localhost:{gate.port}/w/one", token=TOKEN, headers=dict(BEARER)
        )
        with kernel_client as kernel:
            assert kernel.execute("1")["status"] == "ok"
        assert TOKEN not in lab.log.read_text()

    def test_downloads_a_big_file_and_keeps_its_connection(self, gate: Running, lab: Lab) -> None:
        (lab.home / "big.bin").write_bytes(b"\0" * 30_000_000)
        connection = http.client.HTTPConnection("localhost", gate.port, timeout=30)
        for _ in range(3):
            connection.request("GET", "/w/one/files/big.bin", headers=BEARER)
            assert len(connection.getresponse().read()) == 30_000_000
        connection.close()
