"""The socket behind live pages, `/ws/live`: a browser names topics and hears that something changed, never what.

Close codes: 4400 it spoke nonsense, 4401 nobody is logged in (any more). A page polls when there is no socket, so
closing one costs only time.
"""

import json
import re
from typing import Any

from asgiref.typing import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from portal.kernel import clock
from portal.kernel.errors import Missing
from portal.kernel.publish import group
from workspaces import selectors

NONSENSE, LOGGED_OUT = 4400, 4401
MOST_TOPICS = 40
LONGEST_MESSAGE = 4096
RECHECK_S = 30.0
_TOPIC = re.compile(r"(person\.me|workspace\.[a-z0-9]{1,16})\Z", re.ASCII)
#: where revocations are announced, to gateways and to us: {"session": key}, {"user": id} or {"workspace": id}
REVOCATIONS = group("gateway", "all")


class OriginCheck:
    """Refuses a socket that a page of another origin opens, before anything reads its cookies.

    Scheme, host and port must all be the ones it was opened at: cookies ignore ports, so a workspace's page, or any
    other server of this host, would come with the person's session. Channels' own validator ignores ports.
    """

    def __init__(self, app: ASGI3Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if _same_origin(scope):  # type: ignore[arg-type]
            await self.app(scope, receive, send)
        else:
            await receive()  # the opening; closing before accepting answers 403
            await send({"type": "websocket.close", "code": 4403, "reason": ""})


async def no_such_socket(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """For every other path: Channels' router alone would raise, a traceback and a 500 for whoever makes one up."""
    await receive()
    await send({"type": "websocket.close", "code": 4404, "reason": ""})


def _same_origin(scope: dict[str, Any]) -> bool:
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    request = HttpRequest()
    request.META = {
        "HTTP_HOST": headers.get(b"host", ""),
        "HTTP_X_FORWARDED_PROTO": headers.get(b"x-forwarded-proto", ""),
    }
    try:
        host = request.get_host()  # one of ALLOWED_HOSTS
    except DisallowedHost:
        return False
    secure = scope.get("scheme") == "wss" or request.is_secure()
    return headers.get(b"origin", "") == f"{'https' if secure else 'http'}://{host}"


class LiveConsumer(AsyncJsonWebsocketConsumer):
    """{"subscribe": ["workspace.<id>", "person.me"]} sets the topics, {"ping": n} is answered {"pong": n}.

    A topic that is not there and one that is somebody else's are refused alike: {"refused": topic}.
    """

    async def connect(self) -> None:
        self.joined: dict[str, str] = {}  # topic as the browser names it -> group
        self.user = await get_user(self.scope)
        self.session_key = self.scope["session"].session_key
        self.checked_at = clock.monotonic()
        await self.accept()  # a code is only seen by a browser whose socket was open
        if not self.user.is_authenticated:
            await self.close(LOGGED_OUT)
            return
        await self.channel_layer.group_add(REVOCATIONS, self.channel_name)

    async def disconnect(self, code: int) -> None:
        for name in [REVOCATIONS, *self.joined.values()]:
            await self.channel_layer.group_discard(name, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        if not self.user.is_authenticated:
            return
        match _parsed(text_data):
            case {"subscribe": [*topics]} if len(topics) <= MOST_TOPICS and all(map(_is_topic, topics)):
                await self._subscribe(dict.fromkeys(topics))
            case {"ping": int(number)}:
                await self._pong(number)
            case _:
                await self.close(NONSENSE)

    async def _subscribe(self, topics: dict[str, None]) -> None:
        for topic in [topic for topic in self.joined if topic not in topics]:
            await self.channel_layer.group_discard(self.joined.pop(topic), self.channel_name)
        for topic in topics:
            if topic in self.joined:
                continue
            if not await self._may_hear(topic):
                await self.send_json({"refused": topic})
                continue
            self.joined[topic] = group("person", self.user.pk) if topic == "person.me" else topic
            await self.channel_layer.group_add(self.joined[topic], self.channel_name)

    async def _may_hear(self, topic: str) -> bool:
        kind, _, id = topic.partition(".")
        if kind == "person":
            return True
        try:
            await database_sync_to_async(selectors.workspace_of)(self.user, id)
        except Missing:
            return False
        return True

    async def _pong(self, number: int) -> None:
        """The browser's heartbeat is also when we look whether its session still lives."""
        if clock.monotonic() - self.checked_at > RECHECK_S:
            self.checked_at = clock.monotonic()
            session = self.scope["session"].__class__(self.session_key)
            user = await get_user({"session": session})
            if user.pk != self.user.pk:
                await self.close(LOGGED_OUT)
                return
        await self.send_json({"pong": number})

    async def berth_changed(self, message: dict[str, Any]) -> None:
        if message["topic"] == "gateway":
            await self._revoked(message)
            return
        told = {name: value for name, value in message.items() if name != "type"}
        if told["topic"] == "person":
            told["id"] = "me"
        await self.send_json(told)

    async def _revoked(self, message: dict[str, Any]) -> None:
        if message.get("session") == self.session_key or str(message.get("user", "")) == str(self.user.pk):
            await self.close(LOGGED_OUT)
            return
        topic = f"workspace.{message.get('workspace', '')}"
        if topic in self.joined and not await self._may_hear(topic):
            await self.channel_layer.group_discard(self.joined.pop(topic), self.channel_name)
            await self.send_json({"topic": "workspace", "id": message["workspace"]})  # its page will find a 404


def _parsed(text: str | None) -> Any:
    """The JSON that was said, or None."""
    if text is None or len(text) > LONGEST_MESSAGE:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_topic(value: object) -> bool:
    return isinstance(value, str) and _TOPIC.match(value) is not None
