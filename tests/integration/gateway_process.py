"""A real gateway in a process of its own, with rights given as JSON instead of a database: for memory and speed.

    python -m tests.integration.gateway_process PORT '{"backend": 1234, "cookie": "…", "token": "…"}'

Workspace `one` of person 1 is at the backend's port; the cookie opens it by host, the token by path.
"""

import json
import sys
from collections.abc import Callable
from hashlib import sha256

import uvloop

from scheduling.nodes.forward import DirectForwarder
from workspaces.gateway.app import Gateway
from workspaces.gateway.routes import Key, Rights, Route, Table, cookie_key, token_key
from workspaces.gateway.server import gateway_server

SERVER_TOKEN = "the-servers-own-token-that-nobody-may-see"


def fixed_table(*, cookie: str, token: str) -> Table:
    return Table(
        routes={"one": Route("one", 1, "here", "a1", SERVER_TOKEN)},
        keys={
            cookie_key(sha256(cookie.encode()).hexdigest()): Key(user=1, workspace="one"),
            token_key(sha256(token.encode()).hexdigest()): Key(user=1),
        },
    )


def build(port: int, *, backend: int, cookie: str, token: str) -> Gateway:
    async def load() -> Table:
        return fixed_table(cookie=cookie, token=token)

    async def redeem(ticket: str, workspace: str) -> tuple[str, int] | None:
        return None

    lookup: Callable[[str], tuple[str, int] | None] = {"a1": ("127.0.0.1", backend)}.get
    return Gateway(
        rights=Rights(load=load),
        forwarder=DirectForwarder(lookup),
        redeem=redeem,
        portal_origin="http://localhost:8000",
        domain="localhost",
        gateway_port=port,
    )


if __name__ == "__main__":
    port = int(sys.argv[1])
    uvloop.run(gateway_server(build(port, **json.loads(sys.argv[2])), host="127.0.0.1", port=port).serve())
