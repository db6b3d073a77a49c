"""The portal's pages and sockets on a real uvicorn in this process, over the test's own database.

For what needs a browser or a socket but no workspace: machines are moved by hand (tests/hand_node.py), so that every
state of a page can be held still. The whole product is tests/portal_process.py.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from portal.asgi import application
from portal.kernel import publish
from tests.services import wait_for


@dataclass
class LiveServer:
    """`deaf`: while set, the server refuses every socket, as a proxy that knows no WebSocket does."""

    port: int
    deaf: bool = False

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"ws://localhost:{self.port}/ws/live"


@contextlib.contextmanager
def live_server() -> Iterator[LiveServer]:
    """Needs `transactional_db`: the server's threads have connections of their own."""
    listening = socket.create_server(("127.0.0.1", 0))
    live = LiveServer(port=listening.getsockname()[1])
    static = ASGIStaticFilesHandler(application)

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket" and live.deaf:
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        await (application if scope["type"] == "websocket" else static)(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning", timeout_graceful_shutdown=1))

    def run() -> None:
        with asyncio.Runner() as runner:
            publish.use_loop(runner.get_loop())
            runner.run(server.serve([listening]))

    thread = threading.Thread(target=run, name="live-server")
    thread.start()
    try:
        wait_for(lambda: server.started, seconds=20, what="the live server")
        yield live
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        publish.use_loop(None)
        listening.close()
    assert not thread.is_alive(), "the live server did not stop"
