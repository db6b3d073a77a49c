"""The whole product as one foreground process: web, gateway, worker, beat and this machine's node agent.

`run` reads as the life of that process: claim what must be ours, prepare, start the parts, say that it is ready, wait
for a signal, stop the parts in the opposite order. Every part runs in a thread or in the one event loop; there are no
child processes except the workspaces themselves.
"""

import asyncio
import ctypes
import logging
import os
import socket
import sys
import threading
from contextlib import ExitStack
from typing import Any

import uvicorn
import uvloop
from celery import Celery, beat, signals
from celery.worker import state as worker_state
from django.db import DatabaseError, connections

from portal import claims, compose, health
from portal.kernel import clock, publish
from portal.outages import outage
from portal.preparing import prepare
from portal.told import Told
from scheduling import selectors, services
from scheduling.core.lifecycle import EndReason
from scheduling.loop import Loop
from workspaces.gateway.server import OPTIONS as GATEWAY_OPTIONS
from workspaces.gateway.upgrades import DeclinesUpgrades

log = logging.getLogger("berth.up")

READY_PATIENCE_S = 60.0  # then the start says what is not ready, and goes on trying
STOP_PATIENCE_S = 20.0  # for workspaces to end; the next start takes care of what is left
SERVER_GRACE_S = 3  # for requests under way
SILENCE_S = 15.0  # a worker or an agent that did nothing for so long is not well
M_ARENA_MAX = -8  # mallopt(3): glibc otherwise keeps an arena per thread, 60 MB more after a day


def say(text: str = "") -> None:
    """To the person at the terminal; logs go to stderr."""
    print(text, flush=True)


def run(*, keep: bool) -> int:
    """Start everything, stay until a signal comes, stop everything. Answers the exit code."""
    place = compose.place()
    with ExitStack() as ours:
        try:
            ours.enter_context(claims.claim_folder(place.data))
            web_socket = ours.enter_context(claims.claim_port(place.host, place.port, setting="BERTH_PORT"))
            gateway_socket = ours.enter_context(
                claims.claim_port(place.host, place.gateway_port, setting="BERTH_GATEWAY_PORT")
            )
            compose.find_servers()
            _keep_memory_small()
            prepare(place, say=say)
        except (claims.NotOurs, compose.CannotStart) as refusal:
            print(f"berth: {refusal}", file=sys.stderr)
            return 1
        except (DatabaseError, OSError) as error:
            if not (sentence := outage(error)):
                raise
            print(f"berth: Cannot start on {place.data} ({error}). {sentence}", file=sys.stderr)
            return 1
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(_live(place, keep=keep, web_socket=web_socket, gateway_socket=gateway_socket))
            except compose.CannotStart as refusal:
                print(f"berth: {refusal}", file=sys.stderr)
                return 1
    say("Stopped.")
    return 0


# -- before the parts start -------------------------------------------------------------------------------------------
def _keep_memory_small() -> None:
    try:
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)
    except (AttributeError, OSError):  # not glibc: nothing to keep small
        log.debug("no mallopt here")


# -- the parts --------------------------------------------------------------------------------------------------------
class Server(uvicorn.Server):
    """A uvicorn server that shares its loop and leaves the signals to us."""

    def __init__(self, app: Any, **config: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=SERVER_GRACE_S,
                **config,
            )
        )

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await self._serve(sockets)


class Background:
    """Celery's worker and its beat and the scheduling loop, each in a daemon thread. `busy_at`: when a task last ended,
    monotonic."""

    def __init__(self, app: Celery) -> None:
        os.environ["CELERY_SKIP_CHECKS"] = "1"  # `manage.py up` has made Django's checks already
        self.busy_at = clock.monotonic()
        self._app = app
        self._loop = Loop()
        self._worker = app.WorkController(
            pool="threads",
            concurrency=2,
            hostname="worker@one-process",
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
        )
        self._beat = beat.Service(app=app, max_interval=0.5, scheduler_cls=beat.Scheduler, remote_control=False)
        self._threads = {
            "worker": threading.Thread(target=self._worker.start, name="worker", daemon=True),
            "beat": threading.Thread(target=self._beat.start, name="beat", daemon=True),
        }

    def start(self) -> None:
        signals.task_postrun.connect(self._task_ended, weak=False)
        for thread in self._threads.values():
            thread.start()
        self._loop.start()

    def trouble(self) -> str:
        for name, thread in self._threads.items():
            if not thread.is_alive():
                return f"The {name} thread has ended; the log says why. Restart the portal."
        silent = clock.monotonic() - self.busy_at
        if silent > SILENCE_S:
            return f"No background task has ended for {silent:.0f} s."
        return self._loop.trouble()

    def stop(self) -> None:
        """No further task and no further scheduling cycle begins; those under way may finish."""
        self._loop.stop()
        self._beat.stop()
        worker_state.should_stop = 0
        for _ in range(2):  # it waits up to 2 s for a message, then once more: this one does nothing
            self._app.send_task("celery.accumulate")
        for thread in self._threads.values():
            thread.join(timeout=5)

    def _task_ended(self, **_: object) -> None:
        self.busy_at = clock.monotonic()


# -- from start to stop -----------------------------------------------------------------------------------------------
async def _live(place: compose.Place, *, keep: bool, web_socket: socket.socket, gateway_socket: socket.socket) -> None:
    told = Told()
    loop = asyncio.get_running_loop()
    publish.use_loop(loop)
    agent = await asyncio.to_thread(compose.local_agent)
    web = Server(compose.web_app(), lifespan="off", http=DeclinesUpgrades)
    gateway = Server(compose.gateway_app({compose.LOCAL_NODE: agent.address}), **GATEWAY_OPTIONS)
    background = Background(compose.celery_app())
    health.expect("gateway", lambda: "" if gateway.started else "The gateway does not listen yet.")
    health.expect("worker", background.trouble)
    health.expect("disk", health.space_in(place.data))
    health.expect("agent", lambda: _agent_trouble(agent.answered_at))

    serving = [
        asyncio.create_task(web.serve([web_socket]), name="web"),
        asyncio.create_task(gateway.serve([gateway_socket]), name="gateway"),
    ]
    background.start()
    agent.start()
    welcome = asyncio.create_task(_welcome(place, driver=agent.driver.name))
    await asyncio.wait([*serving, asyncio.create_task(told.once.wait())], return_when=asyncio.FIRST_COMPLETED)
    welcome.cancel()

    say("\nStopping (Ctrl-C again hurries)…")
    web.should_exit = gateway.should_exit = True
    asyncio.create_task(_force_when(told.twice, [web, gateway]))  # noqa: RUF006 - ends with the loop
    quiet = asyncio.create_task(asyncio.to_thread(background.stop))
    kept = keep and agent.driver.name == "docker"
    if keep and not kept:
        say("--keep is for Docker: workspaces of the process driver end with the portal.")
    if not kept:
        await _end_workspaces(told.twice, quiet)
    await quiet
    await asyncio.to_thread(agent.stop)
    publish.use_loop(None)
    for result in await asyncio.gather(*serving, return_exceptions=True):
        if isinstance(result, BaseException):
            log.error("a server ended with an error", exc_info=result)
    await asyncio.to_thread(connections.close_all)


def _agent_trouble(answered_at: float | None) -> str:
    if answered_at is None:
        return "The node agent has not reported yet."
    silent = clock.monotonic() - answered_at
    return f"The node agent has not reported for {silent:.0f} s." if silent > SILENCE_S else ""


async def _welcome(place: compose.Place, *, driver: str) -> None:
    """Say that it is ready once it is; after a while say what is not."""
    began = clock.monotonic()
    warned = False
    while troubles := await asyncio.to_thread(health.troubles):
        if not warned and clock.monotonic() - began > READY_PATIENCE_S:
            warned = True
            say("Not ready yet: " + " ".join(troubles.values()))
        await asyncio.sleep(0.05)
    where = {"docker": "in Docker containers", "process": "as plain processes, which are not isolated"}
    say(f"Berth is ready: {place.url}  (workspaces run {where.get(driver, driver)}; Ctrl-C stops)")


async def _end_workspaces(hurry: asyncio.Event, quiet: asyncio.Task[None]) -> None:
    """Tell all work to stop until the agent has seen it gone; again and again, for a last cycle may place more."""
    began = clock.monotonic()
    while True:
        no_more = quiet.done()
        await asyncio.to_thread(services.stop_all, reason=EndReason.PORTAL_STOPPED, now=clock.now())
        held = await asyncio.to_thread(selectors.containers_held)
        if no_more and not held:
            return
        if hurry.is_set() or clock.monotonic() - began > STOP_PATIENCE_S:
            say(
                f"Not ended yet: {held} workspace{'' if held == 1 else 's'}. The next start takes care of what is left."
            )
            return
        await asyncio.sleep(0.1)


async def _force_when(hurry: asyncio.Event, servers: list[Server]) -> None:
    await hurry.wait()
    for server in servers:
        server.force_exit = True
