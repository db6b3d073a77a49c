"""The parts of a cluster's control plane that serve, each a process of its own: `manage.py web`, `manage.py gateway`.

Any number of each may run side by side behind a proxy that ends TLS; what they share is the database and Redis. The
scheduler's workers are Celery's own, the agents `berth-agent`. `portal/up.py` is all of them in one process.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import uvicorn
import uvloop
from django.db import connections

from portal import claims, compose
from portal.kernel import publish
from workspaces.gateway.server import OPTIONS as GATEWAY_OPTIONS
from workspaces.gateway.upgrades import DeclinesUpgrades

GRACE_S = 3  # for requests under way


def serve_web() -> int:
    """Pages, the API and live news on BERTH_PORT until SIGTERM or SIGINT. Answers the exit code."""
    place = compose.place()
    return _serve("web", compose.web_app, place.host, place.port, "BERTH_PORT", lifespan="off", http=DeclinesUpgrades)


def serve_gateway() -> int:
    """The way into workspaces on BERTH_GATEWAY_PORT until SIGTERM or SIGINT. Answers the exit code."""
    place = compose.place()
    port, setting = place.gateway_port, "BERTH_GATEWAY_PORT"
    return _serve("gateway", lambda: compose.gateway_app(nodes_here={}), place.host, port, setting, **GATEWAY_OPTIONS)


def _serve(part: str, app: Callable[[], Any], host: str, port: int, setting: str, **options: Any) -> int:
    try:
        compose.find_shared_servers()
        with claims.claim_port(host, port, setting=setting) as listening:
            config = uvicorn.Config(
                app(),
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
                **options,
            )
            print(f"Berth's {part} listens on {host}:{port}.", flush=True)
            uvloop.run(_live(uvicorn.Server(config), listening))
    except (claims.NotOurs, compose.CannotStart) as refusal:
        print(f"berth: {refusal}", file=sys.stderr)
        return 1
    return 0


async def _live(server: uvicorn.Server, listening: Any) -> None:
    publish.use_loop(asyncio.get_running_loop())
    try:
        await server.serve([listening])
    finally:
        publish.use_loop(None)
        await asyncio.to_thread(connections.close_all)
