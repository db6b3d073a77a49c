"""Who may go where, in memory: the hot path asks no database.

The table is loaded whole by a handful of queries every few seconds, at once when something was revoked, and when
somebody shows a key that it does not hold yet. Loads are shared and spaced, so strangers cannot turn made-up keys into
load on the database.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from portal.kernel import clock

log = logging.getLogger(__name__)

#: a table older than this (the database is away) opens nothing any more
STALE_AFTER_S = 300.0


@dataclass(frozen=True, slots=True)
class Route:
    """Where a running workspace is, and the key of its server, which never leaves the gateway."""

    workspace: str
    owner: int
    node: str
    allocation: str
    token: str


@dataclass(frozen=True, slots=True)
class Key:
    """What somebody shows at the door: a browser's cookie, good for one workspace, or an API token, good for all of
    its owner's."""

    user: int
    workspace: str | None = None


def cookie_key(digest: str) -> str:
    """The name of a cookie in the table. Cookies and API tokens have names of their own, so that neither passes for
    the other."""
    return "cookie:" + digest


def token_key(digest: str) -> str:
    return "token:" + digest


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Table:
    """One moment's rights. Only what is good is in it: live sessions, active people, running workspaces."""

    routes: Mapping[str, Route] = field(default_factory=_nothing)  # by workspace id
    keys: Mapping[str, Key] = field(default_factory=_nothing)  # by cookie_key() or token_key()

    def knows(self, key: str) -> bool:
        return key in self.keys

    def fits(self, *, key: str, workspace: str) -> bool:
        """Is this a good key that was made for this workspace?"""
        shown = self.keys.get(key)
        return shown is not None and shown.workspace in (None, workspace)

    def route_for(self, *, key: str, workspace: str) -> Route | None:
        """The way in, or None where nothing runs that the key's owner may open."""
        shown, route = self.keys.get(key), self.routes.get(workspace)
        if shown is None or route is None or route.owner != shown.user or shown.workspace not in (None, workspace):
            return None
        return route

    def still_open(self, *, key: str, workspace: str, allocation: str) -> bool:
        """May a connection that was let in earlier go on?"""
        route = self.route_for(key=key, workspace=workspace)
        return route is not None and route.allocation == allocation


def _with_keys(table: Table, more: Mapping[str, Key]) -> Table:
    return replace(table, keys={**table.keys, **more}) if more else table


Load = Callable[[], Awaitable[Table]]
Events = Callable[[], AsyncIterator[Mapping[str, Any]]]


class Rights:
    """Keeps a Table fresh and tells who listens whenever it has changed."""

    def __init__(
        self, *, load: Load, every_s: float = 5.0, spacing_s: float = 0.2, events: Events | None = None
    ) -> None:
        self.table = Table()
        self._load = load
        self._every_s = every_s
        self._spacing_s = spacing_s
        self._events = events
        self._listeners: list[Callable[[Table], None]] = []
        self._next: asyncio.Task[None] | None = None
        self._loads: set[asyncio.Task[None]] = set()
        self._loading = asyncio.Lock()
        self._started_at = -spacing_s * 1000
        self._loaded_at: float | None = None
        self._learnt: dict[str, tuple[float, Key]] = {}

    @property
    def fresh(self) -> bool:
        """False before the first load and when the database has been away for too long."""
        return self._loaded_at is not None and clock.monotonic() - self._loaded_at < STALE_AFTER_S

    def on_change(self, listener: Callable[[Table], None]) -> None:
        self._listeners.append(listener)

    async def refresh(self) -> None:
        """Wait for a load that starts after this call. Callers share it, and loads start `spacing_s` apart."""
        if self._next is None:
            self._next = asyncio.create_task(self._load_once())
            self._loads.add(self._next)
            self._next.add_done_callback(self._loads.discard)
        await asyncio.shield(self._next)

    async def _load_once(self) -> None:
        try:
            async with self._loading:
                await asyncio.sleep(self._started_at + self._spacing_s - clock.monotonic())
                self._next = None  # whoever asks from here on needs a later load than this one
                self._started_at = clock.monotonic()
                table = await self._load()
        except Exception:
            # An edge: whatever the database throws, the last good table goes on serving until it is too old.
            log.exception("The gateway could not load its rights; it goes on with those it has.")
            return
        # A load that began before a key was made does not know it, and must not take it away again.
        self._learnt = {name: (at, key) for name, (at, key) in self._learnt.items() if at >= self._started_at}
        self.table = _with_keys(table, {name: key for name, (_, key) in self._learnt.items()})
        self._loaded_at = self._started_at
        for listener in self._listeners:
            listener(self.table)

    def learn(self, name: str, key: Key) -> None:
        """A key that this gateway has just made itself: good at once, without a load."""
        self._learnt[name] = (clock.monotonic(), key)
        self.table = _with_keys(self.table, {name: key})

    async def keep_fresh(self) -> None:
        """Run for as long as the gateway does."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tick())
                if self._events is not None:
                    group.create_task(self._listen(self._events))
        finally:
            for load in self._loads:
                load.cancel()

    async def _tick(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(self._every_s)

    async def _listen(self, events: Events) -> None:
        """Each event means that something changed; the database says what."""
        while True:
            try:
                async for _ in events():
                    await self.refresh()
            except Exception:
                log.exception("The gateway hears of no revocations; it looks every %s s meanwhile.", self._every_s)
            await asyncio.sleep(self._every_s)
