"""The real JupyterLab of .venv-lab, started as a workspace starts it: what its one door lets in, and what it shows."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.services import free_port, wait_for
from workspaces.lab import command

LAB_PYTHON = Path(__file__).parents[2] / ".venv-lab/bin/python"
TOKEN = secrets.token_urlsafe(32)
HEADERS = {"Authorization": f"token {TOKEN}"}

# Every switch that people copy from the web to get rid of Jupyter's login, in each file that Jupyter reads in a home.
OPEN_DOORS = """
c = get_config()
c.IdentityProvider.token = ""
c.HeaderOnly.token = ""
c.PasswordIdentityProvider.hashed_password = ""
c.ServerApp.identity_provider_class = "jupyter_server.auth.identity.PasswordIdentityProvider"
c.ServerApp.token = ""
c.ServerApp.password = ""
c.ServerApp.ip = "0.0.0.0"
c.ServerApp.port = 1
c.ServerApp.allow_unauthenticated_access = True
c.ServerApp.disable_check_xsrf = True
c.ServerApp.allow_origin = "*"
c.ServerApp.tornado_settings = {"token": "", "allow_unauthenticated_access": True}
c.ServerApp.root_dir = "/"
c.LabApp.default_url = "/elsewhere"
open("config-was-run", "w").close()
"""


class Lab:
    """A running server and the folder that is its home."""

    def __init__(self, home: Path, *, environment: dict[str, str] | None = None) -> None:
        self.home, self.port = home, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        path = f"{LAB_PYTHON.parent}:/usr/bin:/bin"
        own = {"HOME": str(home), "USER": "alice", "PATH": path, "LANG": "C.UTF-8", "SHELL": "/bin/sh"}
        own |= {"BERTH_PORT": str(self.port), "BERTH_BIND": "127.0.0.1", "BERTH_TOKEN": TOKEN}
        self.log = home / "server.log"
        with self.log.open("wb") as log:
            argv = [str(LAB_PYTHON), *command()[1:]]
            self.process = subprocess.Popen(argv, env=own | (environment or {}), cwd=home, stdout=log, stderr=log)

    def wait(self) -> "Lab":
        wait_for(lambda: self._listens() or self.process.poll() is not None, seconds=60, what="JupyterLab")
        assert self.process.poll() is None, self.log.read_text()
        return self

    def _listens(self) -> bool:
        return f":{self.port:04X} " in Path("/proc/net/tcp").read_text() and "is running at" in self.log.read_text()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=20)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One server for all questions that leave it as it was."""
    started = Lab(tmp_path_factory.mktemp("home"))
    yield started.wait()
    started.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


async def run_cell(http: aiohttp.ClientSession, url: str, code: str) -> str:
    """Create a kernel, execute `code`, and return what it printed."""
    async with http.post(f"{url}/api/kernels", json={"name": "python3"}, headers=HEADERS) as answer:
        assert answer.status == 201, await answer.text()
        kernel = (await answer.json())["id"]
    message = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "session": "s"}
    content = {"code": code, "silent": False, "user_expressions": {}, "allow_stdin": False}
    request = {"channel": "shell", "header": message | {"version": "5.3"}, "parent_header": {}, "metadata": {}}
    printed = ""
    async with http.ws_connect(f"{url}/api/kernels/{kernel}/channels", headers=HEADERS) as socket:
        await socket.send_json(request | {"content": content})
        async for frame in socket:
            reply = json.loads(frame.data)
            if reply["parent_header"].get("msg_id") != message["msg_id"]:
                continue
            printed += reply["content"].get("text", "") + "".join(reply["content"].get("traceback", []))
            if reply["msg_type"] == "status" and reply["content"]["execution_state"] == "idle":
                break
    async with http.delete(f"{url}/api/kernels/{kernel}", headers=HEADERS) as answer:
        assert answer.status == 204
    return printed


@pytest.mark.parametrize(
    "path",
    ["/lab", "/api", "/api/kernels", "/api/contents", "/api/terminals", "/files/x", "/static/lab/x.js", "/login"],
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "token "},
        {"Authorization": f"token {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": "token \u00fcnl\u00e4ssig"},
    ],
)
async def test_without_the_right_header_nothing_answers(
    lab: Lab, http: aiohttp.ClientSession, path: str, headers: dict[str, str]
) -> None:
    for address in (f"{lab.url}{path}", f"{lab.url}{path}?token={TOKEN}"):
        async with http.get(address, headers=headers, allow_redirects=False) as answer:
            assert answer.status == 403, path


@pytest.mark.parametrize("path", ["/api/kernels/1/channels", "/terminals/websocket/1", "/api/events/subscribe"])
async def test_without_the_header_no_socket_opens(lab: Lab, http: aiohttp.ClientSession, path: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(lab.url + path)
    assert refused.value.status == 403


async def test_a_kernel_computes(lab: Lab, http: aiohttp.ClientSession) -> None:
    assert await run_cell(http, lab.url, "print(6*7)") == "42\n"


async def test_what_a_notebook_runs_does_not_inherit_the_token(lab: Lab, http: aiohttp.ClientSession) -> None:
    printed = await run_cell(http, lab.url, "import os; print(sorted(os.environ), *os.environ.values())")
    assert "BERTH_PORT" in printed
    assert "BERTH_TOKEN" not in printed
    assert TOKEN not in printed


async def test_a_terminal_echoes(lab: Lab, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{lab.url}/api/terminals", headers=HEADERS) as answer:
        name = (await answer.json())["name"]
    async with http.ws_connect(f"{lab.url}/terminals/websocket/{name}", headers=HEADERS) as socket:
        await socket.send_json(["stdin", "echo $((6*7))-$BERTH_TOKEN-\r"])
        shown = ""
        async with asyncio.timeout(20):
            while "42--" not in shown:
                kind, *text = json.loads((await socket.receive()).data)
                shown += text[0] if kind == "stdout" else ""


async def test_a_file_goes_up_and_comes_down(lab: Lab, http: aiohttp.ClientSession) -> None:
    body = {"type": "file", "format": "text", "content": "hello"}
    async with http.put(f"{lab.url}/api/contents/note.txt", json=body, headers=HEADERS) as answer:
        assert answer.status == 201, await answer.text()
    assert (lab.home / "note.txt").read_text() == "hello"
    async with http.get(f"{lab.url}/files/note.txt?download=1", headers=HEADERS) as answer:
        assert (answer.status, await answer.text()) == (200, "hello")


async def test_no_answer_and_no_file_carries_the_token(lab: Lab, http: aiohttp.ClientSession) -> None:
    paths = ["/", "/lab", "/lab/tree", "/doc", "/api", "/api/me", "/api/status", "/api/kernels", "/api/kernelspecs"]
    paths += ["/api/contents", "/api/sessions", "/lab/api/settings", "/lab/api/workspaces", "/metrics", "/nothing-here"]
    for path in paths:
        async with http.get(lab.url + path, headers=HEADERS) as answer:
            seen = (await answer.text()) + repr(answer.raw_headers)
            assert answer.status in (200, 404), path
            assert TOKEN not in seen, path
            assert "Set-Cookie" not in answer.headers or "username-" not in answer.headers["Set-Cookie"], path
    written = [path for path in lab.home.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert written == []


async def test_the_page_says_who_is_in_and_asks_the_internet_for_nothing(lab: Lab, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{lab.url}/api/me", headers=HEADERS) as answer:
        assert (await answer.json())["identity"]["username"] == "alice"
    async with http.get(f"{lab.url}/lab", headers=HEADERS) as answer:
        page = await answer.text()
    settings = json.loads(page.split('id="jupyter-config-data" type="application/json">')[1].split("</script>")[0])
    assert settings["token"] == ""
    assert settings["terminalsAvailable"] is True
    assert settings["news"] == {"disabled": True}
    assert "@jupyterlab/apputils-extension:announcements" in settings["disabledExtensions"]
    async with http.get(f"{lab.url}/lab/api/update", headers=HEADERS) as answer:
        assert (await answer.json()).get("notification") is None


async def test_another_sites_page_is_refused_even_with_the_header(lab: Lab, http: aiohttp.ClientSession) -> None:
    """Should the gateway ever let one through, Jupyter's own checks still stand behind it."""
    foreign = HEADERS | {"Sec-Fetch-Site": "same-site", "Origin": "http://w-other.localhost:8001"}
    async with http.post(f"{lab.url}/api/kernels", json={}, headers=foreign) as answer:
        assert answer.status in (403, 404)
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await http.ws_connect(f"{lab.url}/api/events/subscribe", headers=foreign)


async def test_no_file_in_the_home_opens_the_door(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    folder = tmp_path / ".jupyter"
    folder.mkdir()
    user_site = tmp_path / ".local/etc/jupyter"
    user_site.mkdir(parents=True)
    terminals = "jupyter_jupyter_server_terminals_config"
    for name in ("jupyter_config", "jupyter_server_config", "jupyter_lab_config", terminals):
        (folder / f"{name}.py").write_text(OPEN_DOORS)
        (user_site / f"{name}.py").write_text(OPEN_DOORS)
    closed_by_json = {"ServerApp": {"token": "", "ip": "0.0.0.0", "identity_provider_class": "x.Y"}}
    (folder / "jupyter_server_config.json").write_text(json.dumps(closed_by_json))
    (tmp_path / "random.py").write_text("raise SystemExit('a file of the home was imported by the server')")
    hostile = Lab(tmp_path, environment={"JUPYTER_TOKEN": "", "JUPYTER_PREFER_ENV_PATH": "0"})
    try:
        hostile.wait()
        async with http.get(f"{hostile.url}/api/kernels") as answer:
            assert answer.status == 403
        async with http.get(f"{hostile.url}/api/kernels", headers=HEADERS) as answer:
            assert answer.status == 200
        async with http.get(f"{hostile.url}/", headers=HEADERS) as answer:
            assert answer.url.path == "/lab"
        listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if " 0A " in line]
        assert f"0100007F:{hostile.port:04X}" in listening
        assert not (tmp_path / "config-was-run").exists()
    finally:
        hostile.stop()


async def test_the_persons_own_lab_settings_are_kept(lab: Lab, http: aiohttp.ClientSession) -> None:
    plugin = "@jupyterlab/apputils-extension:themes"
    body = {"raw": '{"theme": "JupyterLab Dark"}'}
    async with http.put(f"{lab.url}/lab/api/settings/{plugin}", json=body, headers=HEADERS) as answer:
        assert answer.status == 204, await answer.text()
    saved = lab.home / ".jupyter/lab/user-settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings"
    assert "JupyterLab Dark" in saved.read_text()
    async with http.get(f"{lab.url}/lab/api/settings/{plugin}", headers=HEADERS) as answer:
        assert (await answer.json())["settings"] == {"theme": "JupyterLab Dark"}


@pytest.mark.parametrize("token", ["", None])
def test_without_a_token_it_does_not_start(tmp_path: Path, token: str | None) -> None:
    environment: dict[str, Any] = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "BERTH_PORT": str(free_port())}
    if token is not None:
        environment["BERTH_TOKEN"] = token
    ended = subprocess.run(
        [str(LAB_PYTHON), *command()[1:]], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode != 0
    assert ended.stderr == "JupyterLab does not start without a token: set BERTH_TOKEN.\n"


def test_an_image_without_jupyterlab_says_so(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "BERTH_TOKEN": TOKEN, "BERTH_PORT": str(free_port())}
    ended = subprocess.run(
        [sys.executable, *command()[1:]], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode != 0
    assert ended.stderr == (
        "This image has no working JupyterLab (No module named 'jupyterlab'): install jupyterlab in it.\n"
    )


def test_a_format_that_the_start_put_off_is_still_checked(tmp_path: Path) -> None:
    question = """
import jsonschema
checks = jsonschema.FormatChecker(["iri"])
for iri in ("http://b\u00fccher.example/", "http://b\u00fccher.example/ x", "a:b"):
    print(checks.conforms(iri, "iri"))
"""
    script = command()[2].replace(
        "if __name__ == '__main__':\n    main()", f"put_off_what_nobody_waits_for(){question}"
    )
    assert question in script
    answer = subprocess.run([str(LAB_PYTHON), "-c", script], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert answer.stdout.split() == ["True", "False", "True"], answer.stderr


def test_a_stop_takes_the_kernels_with_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path).wait()

    async def start_kernel() -> None:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{lab.url}/api/kernels", json={"name": "python3"}, headers=HEADERS) as answer,
        ):
            assert answer.status == 201

    asyncio.run(start_kernel())
    assert _children(lab.process.pid)
    kernels = _children(lab.process.pid)
    lab.stop()
    assert [pid for pid in kernels if Path(f"/proc/{pid}").exists()] == []


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
