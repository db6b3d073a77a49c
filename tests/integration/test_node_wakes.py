"""A node is woken through Redis, and a stolen account of it is worth nothing else: on a real Redis, by trying."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
import redis
from celery import Celery
from kombu import Exchange, Queue

from portal.node_broker import NodeBroker, account
from scheduling.nodes.wakes import Wakes, queue_name
from tests.services import redis_server, wait_for

PASSWORD = "the-portals-own"


@dataclass
class Site:
    """A Redis whose own account has a password, the portal's broker side, and a celery app of the portal's."""

    admin_url: str
    admin: redis.Redis
    broker: NodeBroker
    app: Celery
    woken: list[str] = field(default_factory=list)

    def agent(self, node: str) -> Wakes:
        wakes = Wakes(node=node, wake=lambda: self.woken.append(node))
        wakes.use(self.broker.grant(node, 1))
        wait_for(wakes.is_listening, seconds=15, what=f"{node} to listen")
        self.woken.clear()
        return wakes

    def thief(self, node: str) -> redis.Redis:
        """With the account of a node, as its agent has it."""
        return redis.Redis.from_url(self.broker.grant(node, 1))


@pytest.fixture
def site() -> Iterator[Site]:
    with redis_server() as url:
        redis.Redis.from_url(url).config_set("requirepass", PASSWORD)
        port = urlsplit(url).port
        admin_url = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
        app = Celery("portal", broker=admin_url, set_as_current=False)
        broker = NodeBroker(admin_url=admin_url, node_url=url, secret=b"secret", app=lambda: app)
        yield Site(admin_url=admin_url, admin=redis.Redis.from_url(admin_url), broker=broker, app=app)
        app.close()


def test_a_node_hears_its_wakes_and_no_others_and_needs_no_more_than_it_may(site: Site):
    wakes = site.agent("a")
    site.broker.wake("a-b")
    for number in range(1, 4):
        site.broker.wake("a")
        wait_for(lambda: len(site.woken) == number, seconds=10, what="the wake of a")  # noqa: B023
    time.sleep(3)  # it polls, refreshes its binding and looks for what was not acknowledged
    assert site.admin.llen(queue_name("a-b")) == 1
    assert wakes.is_listening()
    assert site.admin.acl_log() == []


def test_one_wake_waits_and_not_many(site: Site):
    site.broker.grant("a", 1)
    for _ in range(5):
        site.broker.wake("a")
    assert site.admin.llen(queue_name("a")) == 1


STOLEN = {
    "read another node's queue": lambda r: r.lrange("node.b", 0, -1),
    "take from another node's queue": lambda r: r.brpop(["node.b"], timeout=1),
    "take from a queue whose name begins alike": lambda r: r.brpop(["node.a-b"], timeout=1),
    "push to another node's queue": lambda r: r.lpush("node.b", "x"),
    "push to its own queue": lambda r: r.lpush("node.a", "x"),
    "push to the scheduler's queue": lambda r: r.lpush("celery", "x"),
    "bind its queue to others' messages": lambda r: r.sadd("_kombu.binding.celery", "x"),
    "take what others have not acknowledged": lambda r: r.hget("unacked", "x"),
    "order workers about": lambda r: r.publish("/0.celery.pidbox", "x"),
    "listen to browsers' news": lambda r: r.execute_command("SUBSCRIBE", "asgi"),
    "read sessions and caches": lambda r: r.get(":1:session"),
    "list keys": lambda r: r.keys("*"),
    "scan keys": lambda r: r.scan(),
    "read the settings": lambda r: r.config_get("*"),
    "read the accounts": lambda r: r.acl_list(),
    "give itself more": lambda r: r.acl_setuser("node-a", enabled=True, categories=["+@all"]),
    "see who is connected": lambda r: r.client_list(),
    "throw others out": lambda r: r.client_kill_filter(_type="normal"),
    "empty the database": lambda r: r.flushall(),
    "watch everything": lambda r: r.execute_command("MONITOR"),
    "stop the server": lambda r: r.shutdown(nosave=True),
    "write a script that reads other keys": lambda r: r.evalsha(r.script_load("return redis.call('GET', 'celery')"), 0),
}


@pytest.mark.parametrize("attempt", STOLEN)
def test_with_a_stolen_account_nobody_can(site: Site, attempt: str):
    site.admin.set("celery", "secret")
    with pytest.raises((redis.exceptions.NoPermissionError, redis.exceptions.ResponseError)) as refused:
        STOLEN[attempt](site.thief("a"))
    assert any(words in str(refused.value).lower() for words in ("permission", "can't access", "can't run"))


def test_nobody_gets_in_without_an_account_or_with_anothers_name(site: Site):
    url = urlsplit(site.broker.grant("a", 1))
    site.broker.grant("b", 1)
    for stranger in (
        f"redis://127.0.0.1:{url.port}/0",
        f"redis://{account('b')}:{url.password}@127.0.0.1:{url.port}/0",
    ):
        with pytest.raises(redis.exceptions.AuthenticationError):
            redis.Redis.from_url(stranger).ping()


def test_a_workers_remote_control_is_off_even_for_the_portal(site: Site):
    wakes = site.agent("a")
    site.app.control.broadcast("shutdown")
    time.sleep(2)
    site.broker.wake("a")
    wait_for(lambda: site.woken == ["a"], seconds=10, what="the wake after the broadcast")
    assert wakes.is_listening()
    assert site.app.control.ping(timeout=1) == []


def test_what_is_not_a_wake_in_json_is_dropped_and_the_next_wake_heard(site: Site):
    wakes = site.agent("a")
    queue = Queue(queue_name("a"), Exchange(queue_name("a"), type="direct"), routing_key=queue_name("a"))
    site.app.send_task("node.wake", queue=queue, serializer="pickle")
    site.app.send_task("os.system", args=["true"], queue=queue)
    time.sleep(1)
    assert site.woken == []
    site.broker.wake("a")
    wait_for(lambda: site.woken == ["a"], seconds=15, what="the wake after the others")
    assert wakes.is_listening()


def test_an_account_that_is_cut_is_thrown_out(site: Site):
    wakes = site.agent("a")
    site.broker.cut("a")
    wait_for(lambda: not wakes.is_listening(), seconds=15, what="the agent to be thrown out")
    wakes.use(site.broker.grant("a", 2))
    wait_for(wakes.is_listening, seconds=20, what="the agent to be back with its new account")


def test_a_redis_that_forgot_the_accounts_is_told_again(site: Site):
    """As after its restart: accounts live in its memory."""
    wakes = site.agent("a")
    site.admin.acl_deluser(account("a"))
    wait_for(lambda: not wakes.is_listening(), seconds=15, what="the agent to notice")
    wakes.use(site.broker.grant("a", 1))
    wait_for(wakes.is_listening, seconds=20, what="the agent to listen again")


def test_a_broker_that_is_away_costs_a_wake_and_nothing_else(site: Site):
    away = NodeBroker(
        admin_url="redis://127.0.0.1:1/0", node_url="redis://127.0.0.1:1/0", secret=b"s", app=lambda: site.app
    )
    assert away.grant("a", 1) == ""
    away.wake("a")
    away.cut("a")
