"""Being told at once that something changed: the agent as a Celery worker on a queue of its own, for speed alone.

The queue carries one kind of message, `node.wake`, without content. The Redis account that the portal gives to a node
may touch that queue's keys and no others, so everything of Celery that talks to other workers is off, and the keys in
which it keeps unacknowledged messages, which all workers share by default, are the queue's own. Without a broker, or
while it is away, the exchange's interval is what remains.
"""

import contextlib
import logging
import os
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

log = logging.getLogger("berth.wakes")

TASK = "node.wake"
AGAIN_AFTER_S = 5.0


def queue_name(node: str) -> str:
    return f"node.{node}"


def transport_options(node: str) -> dict[str, Any]:
    """kombu's, with every key below the queue's name. The : keeps a node `a` out of the keys of a node `a-b`."""
    name = queue_name(node)
    return {
        "unacked_key": f"{name}:unacked",
        "unacked_index_key": f"{name}:unacked_index",
        "unacked_mutex_key": f"{name}:unacked_mutex",
        "visibility_timeout": 60,
        "socket_keepalive": True,
        "socket_connect_timeout": 5,
    }


class Wakes:
    """One node's worker, in a thread that starts it again whenever it ends. One per process: kombu's event loop is
    the process's own."""

    def __init__(self, *, node: str, wake: Callable[[], None], ca_file: Path | None = None) -> None:
        """ca_file: who signs the broker's certificate, instead of the system's authorities."""
        self._node = node
        self._wake = wake
        self._ca_file = ca_file
        self._url = ""
        self._given = threading.Event()
        self._stopped = threading.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"wakes-{node}", daemon=True)

    def is_listening(self) -> bool:
        return self._listening.is_set()

    def use(self, url: str) -> None:
        """Listen with this broker address, account and password included. Any thread, any time."""
        self._url = url
        self._given.set()
        if not self._thread.is_alive() and not self._stopped.is_set():
            with contextlib.suppress(RuntimeError):  # started by another thread in between
                self._thread.start()

    def stop(self) -> None:
        """No further start; the worker itself ends with the process."""
        self._stopped.set()
        self._given.set()

    def _run(self) -> None:
        told = ""
        while not self._stopped.is_set():
            self._given.wait()
            self._given.clear()
            if self._stopped.is_set():
                return
            try:
                self._work(self._url)
                why = "its worker ended"
            except (
                Exception
            ) as error:  # the edge of the thread: whatever ended the worker, the next start may go better
                log.debug("the worker broke", exc_info=True)
                why = str(error) or type(error).__name__
            self._listening.clear()
            if why != told:
                told = why
                log.warning("%s: not woken any more: %s", self._node, why)
            self._stopped.wait(AGAIN_AFTER_S)

    def _work(self, url: str) -> None:
        os.environ.setdefault("CELERY_SKIP_CHECKS", "1")
        app = _application(self._node, url, self._wake, self._ca_file)
        # What it says of a broker that is away is said once below, not every five seconds.
        logging.getLogger("celery").setLevel(logging.CRITICAL + 1)
        worker = app.WorkController(
            pool="solo",
            concurrency=1,
            hostname=f"agent@{self._node}",
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
            ready_callback=self._ready,
        )
        try:
            worker.start()
        finally:
            app.close()

    def _ready(self, consumer: Any) -> None:
        log.info("%s: woken through the broker", self._node)
        self._wake()  # what happened before we listened
        self._listening.set()


def _application(node: str, url: str, wake: Callable[[], None], ca_file: Path | None) -> Any:
    from celery import Celery  # costs 20 MB, and only an agent with a broker needs it
    from kombu import Exchange, Queue

    name = queue_name(node)
    app = Celery(f"berth-agent-{node}")  # the current one of this thread alone
    app.conf.update(
        broker_url=url,
        broker_transport_options=transport_options(node),
        broker_connection_retry_on_startup=False,
        broker_connection_retry=False,  # we start anew, perhaps with another password
        task_queues=[Queue(name, Exchange(name, type="direct"), routing_key=name)],
        task_default_queue=name,
        task_default_exchange=name,
        task_default_routing_key=name,
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_redirect_stdouts=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_detect_quorum_queues=False,
    )

    if url.startswith("rediss:"):
        trust = {"ssl_ca_certs": str(ca_file)} if ca_file else {}
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, **trust}

    @app.task(name=TASK, ignore_result=True, shared=False, lazy=False)  # type: ignore[untyped-decorator]
    def woken() -> None:
        wake()

    return app
