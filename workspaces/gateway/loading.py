"""The gateway's side of the database: the few queries behind its table, and ticket redemption, off the event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar

from django.db import close_old_connections
from django.db.models import Q

from portal.kernel import clock
from tenants.models import ApiToken
from tenants.permissions import may_use_workspace
from workspaces.gateway import tickets
from workspaces.gateway.routes import Key, Route, Table, cookie_key, token_key
from workspaces.gateway.sessions import signed_in
from workspaces.models import GatewayGrant

Result = TypeVar("Result")


class OpenRoute(Protocol):
    """What workspaces.selectors.open_routes() lists: a workspace whose server runs."""

    @property
    def workspace_id(self) -> str: ...
    @property
    def owner_id(self) -> int: ...
    @property
    def node(self) -> str: ...
    @property
    def allocation(self) -> str: ...
    @property
    def token(self) -> str: ...


def load_table(*, open_routes: Callable[[], Sequence[OpenRoute]], now: datetime) -> Table:
    """All rights at this moment: three queries, and those of `open_routes`, however many workspaces there are."""
    routes = {
        found.workspace_id: Route(found.workspace_id, found.owner_id, found.node, found.allocation, found.token)
        for found in open_routes()
    }
    grants = list(GatewayGrant.objects.select_related("user", "workspace").filter(workspace__deleted_at__isnull=True))
    alive = signed_in(((grant.session_key, grant.user) for grant in grants), now=now)
    keys = {
        cookie_key(grant.sha256): Key(user=grant.user_id, workspace=grant.workspace_id)
        for grant in grants
        if grant.session_key in alive and may_use_workspace(grant.user, owner_id=grant.workspace.owner_id)
    }
    good = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    for sha256, user in ApiToken.objects.filter(good, revoked_at__isnull=True, user__is_active=True).values_list(
        "sha256", "user_id"
    ):
        keys[token_key(sha256)] = Key(user=user)
    return Table(routes=routes, keys=keys)


class Database:
    """Runs the gateway's few database calls in threads of their own, so that a slow database never holds up traffic."""

    def __init__(
        self,
        *,
        open_routes: Callable[[], Sequence[OpenRoute]],
        node_of_key: Callable[[str], str | None] = lambda key: None,
    ) -> None:
        self._open_routes = open_routes
        self._node_of_key = node_of_key
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="gateway-db")

    async def table(self) -> Table:
        return await self._run(lambda: load_table(open_routes=self._open_routes, now=clock.now()))

    async def redeem(self, ticket: str, workspace_id: str) -> tuple[str, int] | None:
        return await self._run(partial(tickets.redeem, ticket=ticket, workspace_id=workspace_id, now=clock.now()))

    async def node_of(self, key: str) -> str | None:
        return await self._run(partial(self._node_of_key, key))

    async def _run(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, _with_connection, call)


def _with_connection(call: Callable[[], Result]) -> Result:
    """Outside a request nobody closes a thread's connection for us."""
    close_old_connections()
    try:
        return call()
    finally:
        close_old_connections()


async def revocations(layer: Any) -> AsyncIterator[dict[str, Any]]:
    """Events of the group `gateway.all`: something that the table holds has changed."""
    channel = await layer.new_channel("gateway")
    await layer.group_add("gateway.all", channel)
    try:
        while True:
            yield await layer.receive(channel)
    finally:
        await layer.group_discard("gateway.all", channel)
