"""The socket behind live pages: who may open it, what it may hear, and when it is closed."""

import contextlib
import json
import socket
from datetime import timedelta

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from portal.kernel.publish import publish
from tests.hand_node import node
from tests.live_server import LiveServer, live_server
from tests.people import People, make_people
from workspaces import consumers
from workspaces.images import ship_catalogue
from workspaces.models import Workspace

__all__ = ["node"]


@pytest.fixture
def world(transactional_db, node) -> People:
    ship_catalogue()
    return make_people()


@pytest.fixture
def server(world):
    with live_server() as live:
        yield live


def session_of(user):
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return session.session_key


def dialled(server: LiveServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port))


@contextlib.contextmanager
def opened(server: LiveServer, key="", *, origin="", host="localhost"):
    cookie = {"Cookie": f"sessionid={key}"} if key else {}
    uri = f"ws://{host}:{server.port}/ws/live"
    with connect(uri, sock=dialled(server), origin=origin or server.url, additional_headers=cookie) as ws:
        yield ws


def subscribe(ws: ClientConnection, *topics: str) -> list[str]:
    """Answers which topics were refused."""
    ws.send(json.dumps({"subscribe": topics}))
    ws.send(json.dumps({"ping": 1}))
    refused = []
    while (heard := hear(ws)) != {"pong": 1}:
        refused.append(heard["refused"])
    return refused


def hear(ws: ClientConnection):
    return json.loads(ws.recv(timeout=5))


def hears_nothing(ws: ClientConnection) -> bool:
    """Whatever was published before this has been heard by the time the heartbeat is answered."""
    ws.send(json.dumps({"ping": 99}))
    return hear(ws) == {"pong": 99}


def close_code(ws: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            ws.recv(timeout=5)
    return closed.value.rcvd.code


def launch(user):
    client = Client(headers={"host": "localhost:8000"})
    client.force_login(user)
    form = {"team": "red", "image": "berth-lab", "gpus": "1", "cpus": "1", "memory_gib": "1"}
    assert client.post("/launch", form).status_code == 302
    return Workspace.objects.latest("created_at").pk


def test_a_page_of_another_origin_cannot_open_it(server, world):
    key = session_of(world.alice)
    port = server.port
    for origin in (
        "null", "http://localhost", f"http://localhost:{port + 1}", f"https://localhost:{port}", f"http://127.0.0.1:{port}",
        f"http://w-abc.localhost:{port}", "http://evil.example", f"http://localhost:{port}.evil.example",
    ):  # fmt: skip
        with pytest.raises(InvalidStatus) as refused, opened(server, key, origin=origin):
            pass
        assert refused.value.response.status_code == 403


def test_a_browser_without_an_origin_is_none(server, world):
    with pytest.raises(InvalidStatus), connect(server.socket_url, sock=dialled(server)):
        pass


def test_a_host_that_is_not_ours_cannot_be_its_own_origin(server, world):
    key, origin = session_of(world.alice), f"http://evil.example:{server.port}"
    with pytest.raises(InvalidStatus), opened(server, key, origin=origin, host="evil.example"):
        pass


def test_a_socket_that_is_not_there_is_refused_without_an_error(server, caplog):
    for path in ("/", "/ws/other", "/ws/live/", "/login"):
        uri = f"ws://localhost:{server.port}{path}"
        with pytest.raises(InvalidStatus) as refused, connect(uri, sock=dialled(server), origin=server.url):
            pass
        assert refused.value.response.status_code == 403
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_without_a_log_in_it_closes_with_4401(server):
    for key in ("", "no-such-session"):
        with opened(server, key) as ws:
            assert close_code(ws) == consumers.LOGGED_OUT


def test_it_tells_the_owner_that_a_workspace_changed_and_nothing_more(server, world, node):
    workspace = launch(world.alice)
    with opened(server, session_of(world.alice)) as ws:
        assert subscribe(ws, f"workspace.{workspace}", "person.me") == []
        node.tick()
        heard = [hear(ws) for _ in range(2)]
    assert {(message["topic"], message["id"]) for message in heard} == {("workspace", workspace), ("person", "me")}
    assert all(set(message) <= {"topic", "id", "job", "version", "state", "done", "total"} for message in heard)


def test_somebody_elses_workspace_and_none_at_all_are_refused_alike(server, world, node):
    topics = [f"workspace.{launch(world.alice)}", "workspace.nothing"]
    with opened(server, session_of(world.bob)) as ws:
        assert subscribe(ws, *topics) == topics
        node.tick()
        assert hears_nothing(ws)


NONSENSE = [
    "", "{", "[]", "1", '{"subscribe": "person.me"}', '{"subscribe": [1]}', '{"subscribe": ["gateway.all"]}',
    '{"subscribe": ["person.1"]}', '{"subscribe": ["workspace.a b"]}', '{"ping": "x"}', '{"what": 1}',
    json.dumps({"subscribe": ["person.me"] * 41}), json.dumps({"subscribe": ["x" * 5000]}), "[" * 4000, b"\x00\xff",
]  # fmt: skip


def test_nonsense_closes_it_with_4400(server, world):
    key = session_of(world.alice)
    for said in NONSENSE:
        with opened(server, key) as ws:
            ws.send(said)
            assert close_code(ws) == consumers.NONSENSE, said


def test_a_log_out_closes_the_sockets_of_that_session_alone(server, world):
    here, there = session_of(world.alice), session_of(world.alice)
    with opened(server, here) as one, opened(server, there) as other:
        subscribe(one, "person.me")
        subscribe(other, "person.me")
        client = Client(headers={"host": "localhost:8000"})
        client.cookies["sessionid"] = here
        client.post("/logout")
        assert close_code(one) == consumers.LOGGED_OUT
        assert hears_nothing(other)


def test_a_person_whose_rights_end_is_closed_out(server, world):
    with opened(server, session_of(world.alice)) as ws:
        subscribe(ws, "person.me")
        publish("gateway", "all", user=world.alice.pk)
        assert close_code(ws) == consumers.LOGGED_OUT


def test_a_deleted_workspace_is_heard_of_once_more_and_then_no_longer(server, world):
    workspace = launch(world.alice)
    with opened(server, session_of(world.alice)) as ws:
        assert subscribe(ws, f"workspace.{workspace}") == []
        Workspace.objects.update(owner=world.bob)
        publish("gateway", "all", workspace=workspace)
        assert hear(ws) == {"topic": "workspace", "id": workspace}
        publish("workspace", workspace, version=9)
        assert hears_nothing(ws)


def test_a_session_that_ended_silently_is_noticed_at_a_heartbeat(server, world, manual_clock):
    key = session_of(world.alice)
    with opened(server, key) as ws:
        subscribe(ws, "person.me")
        SessionStore(key).delete()
        assert hears_nothing(ws)
        manual_clock.advance(timedelta(seconds=consumers.RECHECK_S + 1))
        ws.send('{"ping": 3}')
        assert close_code(ws) == consumers.LOGGED_OUT


def test_a_new_list_of_topics_replaces_the_old_one(server, world, node):
    workspace = launch(world.alice)
    with opened(server, session_of(world.alice)) as ws:
        subscribe(ws, f"workspace.{workspace}")
        subscribe(ws)
        node.tick()
        assert hears_nothing(ws)
