"""How much goes through: requests by wrk, and terminal output by WebSockets, over 50 connections at once."""

import asyncio
import re
import subprocess
import time

import aiohttp

from tests.benchmarks.launch.jupyter import Http, Place

CONNECTIONS = 50


async def requests_per_second(place: Place, path: str, *, seconds: int) -> float:
    """Answered requests per second; an answer that is not 2xx or 3xx spoils the measurement and raises."""
    headers = [part for name, value in place.headers.items() for part in ("-H", f"{name}: {value}")]
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", *headers, place.url + path]
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"{place.url}{path} did not stand the load:\n{done.stdout}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])  # type: ignore[index]


async def messages_per_second(http: Http, place: Place, *, seconds: float) -> float:
    """WebSocket messages per second that 50 viewers of one chattering terminal receive together."""
    async with http.post(f"{place.url}/api/terminals", headers=place.headers) as answer:
        assert answer.status == 200, await answer.text()
        name = (await answer.json())["name"]
    address = f"{place.url}/terminals/websocket/{name}"
    sockets = await asyncio.gather(
        *(http.ws_connect(address, headers=place.headers, max_msg_size=0) for _ in range(CONNECTIONS))
    )
    received = 0

    async def view(socket: aiohttp.ClientWebSocketResponse) -> None:
        nonlocal received
        async for _ in socket:
            received += 1

    viewers = [asyncio.create_task(view(socket)) for socket in sockets]
    # A line at a time, so that a message is a line and not a buffer full of them.
    await sockets[0].send_json(["stdin", "while :; do echo 0123456789; done\r"])
    await asyncio.sleep(1)
    begun, before = time.perf_counter(), received
    await asyncio.sleep(seconds)
    rate = (received - before) / (time.perf_counter() - begun)
    async with http.delete(f"{place.url}/api/terminals/{name}", headers=place.headers) as answer:
        assert answer.status == 204, await answer.text()
    for viewer, socket in zip(viewers, sockets, strict=True):
        viewer.cancel()
        await socket.close()
    return rate
