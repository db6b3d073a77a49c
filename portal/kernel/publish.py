"""Tell browsers and gateways that something changed: topic, id, a few numbers. The truth stays in the database.

A lost message costs nothing but time, since everybody who listens polls as well.
"""

import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

log = logging.getLogger("berth.publish")

#: (topic, id, small), as `publish` takes them
News = tuple[str, object, Mapping[str, object]]

# The in-memory layer belongs to one event loop: in the one-process mode threads hand their messages to it.
_loop: asyncio.AbstractEventLoop | None = None


def use_loop(loop: asyncio.AbstractEventLoop | None) -> None:
    """Send from now on in `loop` (the one that serves the sockets), whatever thread publishes."""
    global _loop
    _loop = loop


def group(topic: str, id: object) -> str:
    """The channel group of a topic, e.g. `workspace.k3x…`."""
    return f"{topic}.{id}"


def publish(topic: str, id: object, **small: Any) -> None:
    """Send `{"type": "berth.changed", "topic", "id", **small}` to all who subscribed, once the transaction commits."""
    publish_all([(topic, id, small)])


def publish_all(news: Sequence[News]) -> None:
    """Many at once, which costs much less than one after the other."""
    if not news:
        return
    messages = [
        (group(topic, id), {"type": "berth.changed", "topic": topic, "id": str(id), **small})
        for topic, id, small in news
    ]
    transaction.on_commit(lambda: _send(messages))


def _passing() -> tuple[type[BaseException], ...]:
    """Redis's own errors are no OSErrors; its package is loaded only where it is used, and costs memory."""
    redis = sys.modules.get("redis.exceptions")
    return (OSError, RuntimeError) if redis is None else (OSError, RuntimeError, redis.RedisError)


def _send(messages: list[tuple[str, dict[str, Any]]]) -> None:
    layer = get_channel_layer()
    if layer is None:
        return

    async def send() -> None:
        for name, message in messages:
            await layer.group_send(name, message)

    try:
        if _loop is not None:
            asyncio.run_coroutine_threadsafe(send(), _loop).add_done_callback(_look_back)
        else:
            async_to_sync(send)()
    except _passing() as error:  # Redis away or the loop closing: listeners find out by polling
        log.warning("could not publish %s: %s", messages[0][0], error)


def _look_back(sent: Future[None]) -> None:
    """Nobody waits for what another thread sends; that it failed is said all the same."""
    if not sent.cancelled() and (error := sent.exception()) is not None:
        log.warning("could not publish: %s", error)
