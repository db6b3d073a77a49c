"""The broker's side of waking nodes: an account for each that can do nothing but hear its own wakes, and the wakes."""

import hashlib
import hmac
import logging
from collections.abc import Callable
from urllib.parse import quote, urlsplit, urlunsplit

import redis
from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from scheduling.nodes.wakes import TASK, queue_name

log = logging.getLogger("berth.wakes")

#: a wake that was not heard within so long says nothing more than the exchange since then
_GOOD_FOR_S = 60
#: what kombu needs to consume one queue, and nothing that names other keys, channels, clients or the server
COMMANDS = (
    *("auth", "hello", "ping", "quit", "select", "client|setname"),
    *("multi", "exec", "discard", "watch", "unwatch"),
    *("brpop", "rpop", "llen", "sadd", "srem", "smembers", "del", "get", "set", "pexpire", "pttl"),
    *("hset", "hget", "hdel", "zadd", "zrem", "zrange", "zrevrangebyscore", "evalsha", "script|load"),
)


class NodeBroker:
    """admin_url: the portal's own account. node_url: where agents reach the same Redis, without account."""

    def __init__(self, *, admin_url: str, node_url: str, secret: bytes, app: Callable[[], Celery]) -> None:
        self._node_url = node_url
        self._secret = secret
        self._app = app
        self._redis = redis.Redis.from_url(admin_url, socket_timeout=5, socket_connect_timeout=5)

    def grant(self, node: str, epoch: int) -> str:
        """The address with which the node's agent hears its wakes; makes the account, which Redis forgets when it is
        restarted. Empty while Redis cannot be asked: the node goes on without wakes."""
        password = hmac.new(self._secret, f"broker of node {node} in epoch {epoch}".encode(), "sha256").hexdigest()
        try:
            self._redis.execute_command("ACL", "SETUSER", account(node), *rules(node, password))
        except redis.RedisError as error:
            log.warning("no broker account for %s: %s", node, error)
            return ""
        parts = urlsplit(self._node_url)
        netloc = f"{quote(account(node), safe='')}:{password}@{parts.netloc}"
        return urlunsplit((parts.scheme, netloc, parts.path or "/0", "", ""))

    def cut(self, node: str) -> None:
        """Take the account away; whoever is connected with it is thrown out."""
        try:
            self._redis.execute_command("ACL", "DELUSER", account(node))
        except redis.RedisError as error:
            log.warning("the broker account of %s is still there: %s", node, error)

    def wake(self, node: str) -> None:
        """Only while none is waiting: one says as much as many. Losing it costs one interval."""
        name = queue_name(node)
        try:
            if self._redis.llen(name):
                return
            queue = Queue(name, Exchange(name, type="direct"), routing_key=name)
            self._app().send_task(TASK, queue=queue, expires=_GOOD_FOR_S, retry=False, ignore_result=True)
        except (redis.RedisError, OperationalError) as error:
            log.info("%s was not woken: %s", node, error)


def account(node: str) -> str:
    return f"node-{node}"


def rules(node: str, password: str) -> list[str]:
    """Redis's ACL for one node's agent. No glob begins with the bare name: `node.a*` would be node a-b's as well."""
    name = queue_name(node)
    keys = [name, f"{name}\x06\x16*", f"{name}:*", f"_kombu.binding.{name}", f"_kombu.binding_permanent.{name}"]
    return [
        "reset",
        "on",
        f"#{hashlib.sha256(password.encode()).hexdigest()}",
        *(f"~{key}" for key in keys),
        "resetchannels",
        "-@all",
        *(f"+{command}" for command in COMMANDS),
    ]
