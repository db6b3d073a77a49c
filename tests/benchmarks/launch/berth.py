"""Berth as a contestant: `manage.py up` in a process of its own, a click by its API, sessions through its gateway."""

import asyncio
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from tests.benchmarks.launch.jupyter import Http, Place
from tests.benchmarks.launch.peers import POLL_S
from tests.portal_process import Portal


class Berth:
    """One portal with one driver. `settings`: further BERTH_* variables, such as the Docker engine to use."""

    def __init__(self, *, driver: str, image: str, settings: dict[str, str]) -> None:
        self.name = f"Berth, {driver} driver"
        self._folder = Path(tempfile.mkdtemp(prefix="bench-berth-"))
        self._folder.chmod(0o711)  # workspaces of the process driver run under another account
        environment = {"BERTH_DRIVER": driver, **settings}
        self._portal = Portal(self._folder / "var", self._folder / "log", environment)
        self._image, self._headers, self._workspace = image, {}, ""

    async def start(self, http: Http) -> None:
        await asyncio.to_thread(self._portal.start)
        token = (await asyncio.to_thread(self._portal.manage, "create_token", "admin")).split()[-1]
        self._headers = {"Authorization": f"Bearer {token}"}
        async with http.get(f"{self._portal.url}/api/v1/workspaces", headers=self._headers) as answer:
            assert answer.status == 200, await answer.text()

    async def open(self, http: Http) -> Place:
        api = f"{self._portal.url}/api/v1/workspaces"
        ask = {"team": "default", "image": self._image, "gpus": 1, "cpus": 1, "memory_gib": 1}
        key = {"Idempotency-Key": secrets.token_hex(8)}
        async with http.post(api, json=ask, headers=self._headers | key) as answer:
            workspace = await answer.json()
            assert answer.status == 201, workspace
        self._workspace = workspace["id"]
        while workspace["state"] != "ready":
            assert workspace["state"] not in ("failed", "stopped"), workspace
            await asyncio.sleep(POLL_S)
            async with http.get(f"{api}/{self._workspace}", headers=self._headers) as answer:
                workspace = await answer.json()
        return Place(workspace["url"].rstrip("/"), self._headers)

    async def close(self, http: Http) -> None:
        address = f"{self._portal.url}/api/v1/workspaces/{self._workspace}"
        async with http.post(f"{address}/stop", headers=self._headers) as answer:
            assert answer.status == 200, await answer.text()
        state = ""
        while state not in ("stopped", "failed"):
            await asyncio.sleep(POLL_S)
            async with http.get(address, headers=self._headers) as answer:
                state = (await answer.json())["state"]
        async with http.delete(address, headers=self._headers) as answer:
            assert answer.status == 204, await answer.text()

    async def end(self) -> None:
        await asyncio.to_thread(self._portal.stop)
        shutil.rmtree(self._folder, ignore_errors=True)

    def server_behind(self) -> Place:
        """The JupyterLab of the open workspace, past the gateway: found as root finds it, in its environment."""
        mark = str(self._portal.data).encode()
        for entry in Path("/proc").glob("[0-9]*/environ"):
            try:
                own = dict(part.split(b"=", 1) for part in entry.read_bytes().split(b"\0") if b"=" in part)
            except OSError:
                continue
            if {b"BERTH_TOKEN", b"BERTH_PORT"} <= own.keys() and mark in own.get(b"HOME", b""):
                token, port = own[b"BERTH_TOKEN"].decode(), own[b"BERTH_PORT"].decode()
                return Place(f"http://127.0.0.1:{port}", {"Authorization": f"token {token}"})
        raise RuntimeError(f"no workspace of {self.name} runs on this machine (uid {os.getuid()})")
