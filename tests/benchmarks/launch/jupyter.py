"""A small Jupyter client, the same for every peer: a kernel by REST, cells and round trips by its WebSocket."""

import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp

Http = aiohttp.ClientSession


@dataclass(frozen=True)
class Place:
    """Where a JupyterLab is reached, and what to send with every request: `url` has no trailing slash."""

    url: str
    headers: dict[str, str]


async def start_kernel(http: Http, place: Place) -> str:
    async with http.post(f"{place.url}/api/kernels", json={"name": "python3"}, headers=place.headers) as answer:
        assert answer.status == 201, f"{place.url}: {answer.status} {await answer.text()}"
        return str((await answer.json())["id"])


class Kernel:
    """One WebSocket to a kernel."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._session = socket, uuid.uuid4().hex

    async def ask(self, kind: str, content: dict[str, object]) -> str:
        """Send a request; return what was printed once both its reply and its `idle` have come."""
        message = uuid.uuid4().hex
        header = {"msg_id": message, "msg_type": kind, "username": "", "session": self._session, "version": "5.3"}
        request = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
        await self._socket.send_json(request)
        printed, replied, idle = "", False, False
        while not (replied and idle):
            frame = await self._socket.receive(timeout=60)
            assert frame.type is aiohttp.WSMsgType.TEXT, f"the kernel's socket ended: {frame}"
            reply = json.loads(frame.data)
            if reply["parent_header"].get("msg_id") != message:
                continue
            replied |= reply["msg_type"].endswith("_reply")
            idle |= reply["content"].get("execution_state") == "idle"
            printed += reply["content"].get("text", "")
        return printed

    async def execute(self, code: str) -> str:
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        return await self.ask("execute_request", content | {"stop_on_error": True})


@contextlib.asynccontextmanager
async def connected(http: Http, place: Place, kernel: str) -> AsyncIterator[Kernel]:
    address = f"{place.url}/api/kernels/{kernel}/channels"
    async with http.ws_connect(address, headers=place.headers, max_msg_size=0) as socket:
        yield Kernel(socket)


async def first_cell(http: Http, place: Place) -> None:
    """What a person waits for: a kernel, and the first thing that it prints."""
    kernel = await start_kernel(http, place)
    async with connected(http, place, kernel) as asked:
        printed = await asked.execute("print(6*7)")
        assert printed == "42\n", printed


async def round_trip(kernel: Kernel) -> float:
    """Seconds that `1+1` takes, from the request to the reply and the idle message."""
    begun = time.perf_counter()
    await kernel.execute("1+1")
    return time.perf_counter() - begun
