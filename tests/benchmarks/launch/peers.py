"""The contestants. Each turns a click into a JupyterLab that answers, and takes it away again."""

import asyncio
import json
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Protocol

from tests.benchmarks.launch.jupyter import Http, Place
from tests.services import free_port
from workspaces.lab import command

ROOT = Path(__file__).resolve().parents[3]
LAB = ROOT / ".venv-lab/bin"
BENCH = ROOT / ".cache/bench"
HUB = BENCH / "hub/bin"
PROXY = BENCH / "chp/node_modules/.bin/configurable-http-proxy"
POLL_S = 0.02


class Peer(Protocol):
    name: str

    async def start(self, http: Http) -> None:
        """Bring up what stands before any click: the portal, the hub. Not measured."""

    async def open(self, http: Http) -> Place:
        """The click: returns when the JupyterLab behind it answers."""

    async def close(self, http: Http) -> None:
        """Stop that JupyterLab, and wait until it is gone."""

    async def end(self) -> None:
        """Stop what `start` brought up."""


class Program:
    """A process with a log, ended politely and then for certain."""

    def __init__(self, argv: list[str], *, environment: dict[str, str], folder: Path) -> None:
        self.log = folder / f"{Path(argv[0]).name}.log"
        self._begun_at = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                argv, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def check(self) -> None:
        if self._process.poll() is not None:
            tail = self.log.read_bytes()[self._begun_at :].decode(errors="replace")[-3000:]
            raise RuntimeError(f"{self.log.stem} ended with {self._process.returncode}:\n{tail}")

    async def answers(self, http: Http, url: str, headers: dict[str, str]) -> None:
        while True:
            self.check()
            try:
                async with http.get(url, headers=headers) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                pass
            await asyncio.sleep(POLL_S)

    async def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self._process.wait, 20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)


def private_environment(home: Path, program_folder: Path, **more: str) -> dict[str, str]:
    path = f"{program_folder}:/usr/local/bin:/usr/bin:/bin"
    return {"HOME": str(home), "USER": "bench", "PATH": path, "LANG": "C.UTF-8", "SHELL": "/bin/sh", **more}


class LabAlone:
    """`jupyter lab` as it ships, or as Berth starts it, with no portal before it."""

    def __init__(self, *, trimmed: bool) -> None:
        self.name = "JupyterLab alone, Berth's start" if trimmed else "JupyterLab alone, as shipped"
        self._trimmed, self._folder = trimmed, Path(tempfile.mkdtemp(prefix="bench-lab-"))
        self._token, self._program = secrets.token_hex(16), None

    async def start(self, http: Http) -> None:
        pass

    async def open(self, http: Http) -> Place:
        port = free_port()
        place = Place(f"http://127.0.0.1:{port}", {"Authorization": f"token {self._token}"})
        if self._trimmed:
            argv = [str(LAB / "python"), *command()[1:]]
        else:
            argv = [str(LAB / "jupyter"), "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
            argv += [f"--IdentityProvider.token={self._token}"]
        own = {"BERTH_PORT": str(port), "BERTH_BIND": "127.0.0.1", "BERTH_TOKEN": self._token} if self._trimmed else {}
        environment = private_environment(self._folder, LAB, **own)
        self._program = Program(argv, environment=environment, folder=self._folder)
        await self._program.answers(http, f"{place.url}/api", place.headers)
        return place

    async def close(self, http: Http) -> None:
        assert self._program is not None
        await self._program.end()

    async def end(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class Hub:
    """JupyterHub with its simple local spawner and configurable-http-proxy, asked as its own pages ask it."""

    name = "JupyterHub"

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bench-hub-"))
        self._token = secrets.token_hex(16)
        self._headers = {"Authorization": f"token {self._token}"}
        self.url = f"http://127.0.0.1:{free_port()}"
        self._program: Program | None = None

    async def start(self, http: Http) -> None:
        settings = self._folder / "jupyterhub_config.py"
        settings.write_text(f"""
c = get_config()
c.JupyterHub.bind_url = "{self.url}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{free_port()}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{free_port()}"
c.ConfigurableHTTPProxy.command = ["{PROXY}"]
c.JupyterHub.db_url = "sqlite:///{self._folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{self._folder}/cookie_secret"
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.SimpleLocalProcessSpawner.home_dir_template = "{self._folder}/home/{{username}}"
c.Spawner.args = ["--allow-root"]
c.Spawner.default_url = "/lab"
c.JupyterHub.services = [{{"name": "bench", "api_token": "{self._token}"}}]
c.JupyterHub.load_roles = [
    {{"name": "bench", "services": ["bench"], "scopes": ["admin:users", "admin:servers", "access:servers"]}}
]
""")
        environment = private_environment(self._folder, HUB)
        argv = [str(HUB / "jupyterhub"), "--config", str(settings)]
        self._program = Program(argv, environment=environment, folder=self._folder)
        await self._program.answers(http, f"{self.url}/hub/api", self._headers)
        async with http.post(f"{self.url}/hub/api/users/alice", headers=self._headers) as answer:
            assert answer.status == 201, await answer.text()

    async def open(self, http: Http) -> Place:
        server = f"{self.url}/hub/api/users/alice/server"
        async with http.post(server, headers=self._headers) as answer:
            assert answer.status in (201, 202), await answer.text()
        async with http.get(f"{server}/progress", headers=self._headers) as events:
            async for line in events.content:
                if line.startswith(b"data:") and (event := json.loads(line[5:])).get("ready"):
                    return Place(self.url + str(event["url"]).rstrip("/"), self._headers)
                assert b'"failed": true' not in line, line
        raise RuntimeError("JupyterHub's progress ended without a server")

    async def close(self, http: Http) -> None:
        server = f"{self.url}/hub/api/users/alice/server"
        async with http.delete(server, headers=self._headers) as answer:
            gone = answer.status == 204
        while not gone:
            async with http.get(f"{self.url}/hub/api/users/alice", headers=self._headers) as answer:
                gone = not (await answer.json())["servers"]
            await asyncio.sleep(POLL_S)

    async def end(self) -> None:
        if self._program is not None:
            await self._program.end()
        shutil.rmtree(self._folder, ignore_errors=True)


class Proxy:
    """configurable-http-proxy by itself, before one server."""

    def __init__(self, target: Place) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bench-proxy-"))
        self._port, self._target = free_port(), target
        self._program: Program | None = None
        self.place = Place(f"http://127.0.0.1:{self._port}", target.headers)

    async def start(self, http: Http) -> None:
        argv = [str(PROXY), "--ip", "127.0.0.1", "--port", str(self._port), "--api-ip", "127.0.0.1"]
        argv += ["--api-port", str(free_port()), "--default-target", self._target.url, "--log-level", "error"]
        environment = private_environment(self._folder, PROXY.parent, CONFIGPROXY_AUTH_TOKEN=secrets.token_hex(16))
        self._program = Program(argv, environment=environment, folder=self._folder)
        await self._program.answers(http, f"{self.place.url}/api", self.place.headers)

    async def end(self) -> None:
        if self._program is not None:
            await self._program.end()
        shutil.rmtree(self._folder, ignore_errors=True)
