"""Who gets in, by which key, for how long: with the real database behind the gateway's table."""

import asyncio
import queue
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import login
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest

from portal.kernel import clock
from tenants.models import ApiToken, User
from tenants.tokens import create_token
from tests.integration.gateway_world import PORTAL, SERVER_TOKEN, Behind, Reply, Running, running_gateway, server_behind
from tests.people import People, make_people
from tests.services import wait_for
from workspaces.gateway.loading import Database, load_table
from workspaces.gateway.routes import Key, Rights, Table
from workspaces.gateway.tickets import LIFETIME, mint, redeem
from workspaces.models import GatewayGrant, Image, Ticket, Volume, Workspace

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"}


@dataclass
class Open:
    """What workspaces.selectors.open_routes() lists."""

    workspace_id: str
    owner_id: int
    node: str
    allocation: str
    token: str = SERVER_TOKEN


@dataclass
class World:
    people: People
    behind: Behind
    gate: Running
    open: list[Open]
    events: "queue.Queue[None]"
    loads: list[None] = field(default_factory=list)

    def workspace(self, owner: User, name: str) -> Workspace:
        image, _ = Image.objects.get_or_create(slug="lab", defaults={"name": "Lab", "reference": "berth/lab"})
        volume, _ = Volume.objects.get_or_create(
            name=f"home-{owner.pk}", owner=owner, team=self.people.red, defaults={"created_at": clock.now()}
        )
        row = Workspace.objects.create(
            id=name, owner=owner, team=self.people.red, name=name, image=image, volume=volume,
            cpu_millis=1000, memory_mib=1024, created_at=clock.now(),
        )  # fmt: skip
        self.open.append(Open(row.pk, owner.pk, "here", f"a-{name}"))
        self.gate.targets[f"a-{name}"] = ("127.0.0.1", self.behind.port)
        return row

    def stop(self, workspace: Workspace) -> None:
        self.open[:] = [route for route in self.open if route.workspace_id != workspace.pk]
        self.events.put(None)

    def ticket(self, workspace: Workspace, user: User, session: str) -> str:
        return mint(workspace=workspace, user=user, session_key=session, now=clock.now())

    def show(self, workspace: Workspace, ticket: str, onward: str = "/lab", **headers: str) -> Reply:
        target = f"/.berth/enter?ticket={ticket}&next={onward}"
        return self.gate.ask(target, host=self.gate.host(workspace.pk), headers=headers or PAGE)

    def cookie(self, workspace: Workspace, user: User, session: str) -> str:
        reply = self.show(workspace, self.ticket(workspace, user, session))
        assert reply.status == 303
        return (reply.one("set-cookie") or "").partition(";")[0].partition("=")[2]

    def visit(self, workspace: str, cookie: str, target: str = "/api", **headers: str) -> Reply:
        return self.gate.ask(
            target, host=self.gate.host(workspace), headers={"Cookie": f"berth_gate={cookie}", **headers}
        )


def sign_in(user: User) -> str:
    """A portal session of this person; its key."""
    request = HttpRequest()
    request.session = SessionStore()
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    request.session.save()
    return str(request.session.session_key)


@pytest.fixture
def world(transactional_db: None) -> Iterator[World]:
    open_now: list[Open] = []
    loads: list[None] = []
    events: queue.Queue[None] = queue.Queue()

    def open_routes() -> list[Open]:
        loads.append(None)
        return list(open_now)

    async def revocations() -> AsyncIterator[dict[str, Any]]:
        while True:
            await asyncio.to_thread(events.get)
            yield {}

    database = Database(open_routes=open_routes)
    with server_behind() as behind:
        with running_gateway(
            load=database.table, redeem=database.redeem, targets={}, every_s=60, events=revocations
        ) as gate:
            yield World(make_people(), behind, gate, open_now, events, loads)
        events.put(None)  # frees the thread that waits for the next one, else the interpreter never ends


class TestTickets:
    def test_one_is_exchanged_for_a_cookie_and_a_clean_address(self, world: World) -> None:
        one = world.workspace(world.people.alice, "one")
        session = sign_in(world.people.alice)
        reply = world.show(one, world.ticket(one, world.people.alice, session), onward="/lab/tree/a%2520b.ipynb%3Fx=1")
        assert (reply.status, reply.one("location")) == (303, "/lab/tree/a%20b.ipynb?x=1")
        assert reply.one("referrer-policy") == "no-referrer"
        assert reply.one("cache-control") == "no-store"
        name_value, *attributes = (reply.one("set-cookie") or "").split("; ")
        assert name_value.startswith("berth_gate=")
        assert attributes == ["Path=/", "HttpOnly", "SameSite=Lax"]
        cookie = name_value.partition("=")[2]
        assert world.visit("one", cookie).status == 200
        assert not GatewayGrant.objects.filter(sha256=cookie).exists(), "only a hash is stored"

    def test_under_https_the_cookie_is_secure_and_has_the_host_prefix(self, world: World) -> None:
        one = world.workspace(world.people.alice, "one")
        session = sign_in(world.people.alice)
        database = Database(open_routes=list)
        with running_gateway(
            load=database.table, redeem=database.redeem, targets={}, portal="https://berth.example"
        ) as gate:
            ticket = world.ticket(one, world.people.alice, session)
            reply = gate.ask(f"/.berth/enter?ticket={ticket}", host=gate.host("one"), headers=PAGE)
        cookie = reply.one("set-cookie") or ""
        assert cookie.startswith("__Host-berth_gate=")
        assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax; Secure")

    def test_of_twenty_that_show_one_at_once_exactly_one_gets_in(self, world: World) -> None:
        one = world.workspace(world.people.alice, "one")
        ticket = world.ticket(one, world.people.alice, sign_in(world.people.alice))
        with ThreadPoolExecutor(20) as pool:
            replies = list(pool.map(lambda _: world.show(one, ticket).status, range(20)))
        assert sorted(replies) == [303] + [401] * 19
        assert GatewayGrant.objects.count() == 1

    def test_two_gateways_cannot_both_redeem_one(self, world: World) -> None:
        one = world.workspace(world.people.alice, "one")
        ticket = world.ticket(one, world.people.alice, sign_in(world.people.alice))
        gateways = [Database(open_routes=list) for _ in range(8)]
        barrier = threading.Barrier(8)

        def race(database: Database) -> tuple[str, int] | None:
            barrier.wait()
            return asyncio.run(database.redeem(ticket, "one"))

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(race, gateways))
        assert sum(cookie is not None for cookie in won) == 1

    def test_one_lives_thirty_seconds(self, world: World) -> None:
        one, now = world.workspace(world.people.alice, "one"), clock.now()
        session = sign_in(world.people.alice)
        for age, good in ((LIFETIME - timedelta(seconds=1), True), (LIFETIME, False)):
            ticket = mint(workspace=one, user=world.people.alice, session_key=session, now=now)
            assert (redeem(ticket=ticket, workspace_id="one", now=now + age) is not None) is good
        assert timedelta(seconds=30) == LIFETIME

    def test_one_opens_only_its_own_workspace_and_is_not_burnt_elsewhere(self, world: World) -> None:
        one, two = world.workspace(world.people.alice, "one"), world.workspace(world.people.alice, "two")
        ticket = world.ticket(one, world.people.alice, sign_in(world.people.alice))
        assert world.show(two, ticket).status == 401
        assert world.show(one, ticket).status == 303

    def test_one_dies_with_the_portal_session(self, world: World) -> None:
        one = world.workspace(world.people.alice, "one")
        session = sign_in(world.people.alice)
        ticket = world.ticket(one, world.people.alice, session)
        SessionStore(session).delete()
        assert world.show(one, ticket).status == 401

    def test_one_dies_with_the_right_to_enter(self, world: World) -> None:
        one = world.workspace(world.people.alice, "one")
        tickets = [
            world.ticket(one, world.people.bob, sign_in(world.people.bob)),  # never was his
            world.ticket(one, world.people.alice, sign_in(world.people.bob)),  # another's session
            world.ticket(one, world.people.alice, "no-such-session"),
        ]
        assert [world.show(one, ticket).status for ticket in tickets] == [401, 401, 401]
        last = world.ticket(one, world.people.alice, sign_in(world.people.alice))
        User.objects.filter(pk=world.people.alice.pk).update(is_active=False)
        assert world.show(one, last).status == 401

    def test_a_link_checkers_head_does_not_burn_one(self, world: World) -> None:
        one = world.workspace(world.people.alice, "one")
        ticket = world.ticket(one, world.people.alice, sign_in(world.people.alice))
        target = f"/.berth/enter?ticket={ticket}"
        assert world.gate.ask(target, method="HEAD", host=world.gate.host("one")).status == 405
        assert world.show(one, ticket).status == 303

    def test_old_tickets_and_grants_of_dead_sessions_are_forgotten(self, world: World) -> None:
        one, now = world.workspace(world.people.alice, "one"), clock.now()
        gone, session = sign_in(world.people.alice), sign_in(world.people.alice)
        world.cookie(one, world.people.alice, gone)
        mint(workspace=one, user=world.people.alice, session_key=gone, now=now - timedelta(hours=2))
        SessionStore(gone).delete()
        world.cookie(one, world.people.alice, session)
        assert [grant.session_key for grant in GatewayGrant.objects.all()] == [session]
        assert Ticket.objects.filter(expires_at__lt=now).count() == 0

    @pytest.mark.parametrize(
        "onward",
        ["//evil.example", "https://evil.example", "/%5Cevil.example", "%5C%5Cevil", "/lab%0d%0aSet-Cookie:%20a=1",
         "/%09/evil.example", "javascript:alert(1)", "", "lab", "/a%00", "/%20/x"],
    )  # fmt: skip
    def test_the_way_onward_stays_on_the_host(self, world: World, onward: str) -> None:
        one = world.workspace(world.people.alice, "one")
        reply = world.show(one, world.ticket(one, world.people.alice, sign_in(world.people.alice)), onward=onward)
        assert (reply.status, reply.one("location")) == (303, "/lab")
        assert len(reply.all("set-cookie")) == 1


class TestWhatStrangersSee:
    def test_a_person_gets_a_page_that_leads_back_to_the_portal(self, world: World) -> None:
        one = world.workspace(world.people.alice, "one")
        for reply in (world.gate.ask("/lab", host=world.gate.host("one"), headers=PAGE), world.show(one, "made-up")):
            assert reply.status == 401
            assert reply.one("content-type") == "text/html; charset=utf-8"
            assert f'href="{PORTAL}/w/one"'.encode() in reply.body
            assert b"<script" not in reply.body
            assert (reply.one("content-security-policy") or "").startswith("default-src 'none'")
            assert reply.one("cache-control") == "no-store"

    def test_a_program_gets_one_sentence(self, world: World) -> None:
        world.workspace(world.people.alice, "one")
        reply = world.gate.ask("/w/one/api")
        assert (reply.status, reply.detail) == (401, "Send an API token as 'Authorization: Bearer <token>'.")
        assert world.gate.ask("/anything").status == 404

    def test_a_workspace_that_is_not_there_looks_like_one_of_others(self, world: World) -> None:
        one, two = world.workspace(world.people.alice, "one"), world.workspace(world.people.charlie, "two")
        cookie = world.cookie(one, world.people.alice, sign_in(world.people.alice))
        _, token = create_token(user=world.people.alice, name="t", now=clock.now())

        def answers(name: str) -> list[Any]:
            host, bearer = world.gate.host(name), {"Authorization": f"Bearer {token}"}
            replies = [
                world.visit(name, cookie), world.visit(name, "made-up"),
                world.gate.ask("/lab", host=host, headers=PAGE),
                world.gate.ask(f"/w/{name}/api", headers=bearer), world.gate.ask(f"/w/{name}/api"),
            ]  # fmt: skip
            return [(r.status, r.headers, r.body.replace(name.encode(), b"?")) for r in replies]

        assert answers("two") == answers("xyz")
        assert [status for status, *_ in answers(two.pk)] == [404, 401, 401, 404, 401]

    def test_a_cookie_made_for_one_does_not_open_the_other_of_the_same_person(self, world: World) -> None:
        one, two = world.workspace(world.people.alice, "one"), world.workspace(world.people.alice, "two")
        session = sign_in(world.people.alice)
        first, second = world.cookie(one, world.people.alice, session), world.cookie(two, world.people.alice, session)
        assert world.visit("two", first).status == 404
        assert world.visit("two", second).status == 200

    def test_pages_of_other_origins_cannot_act_through_the_cookie(self, world: World) -> None:
        one = world.workspace(world.people.alice, "one")
        cookie = world.cookie(one, world.people.alice, sign_in(world.people.alice))
        own, sibling = world.gate.origin("one"), world.gate.origin("two")

        def status(method: str = "GET", **headers: str) -> int:
            named = {"Cookie": f"berth_gate={cookie}"} | {k.replace("_", "-"): v for k, v in headers.items()}
            body = b"{}" if method == "POST" else None
            return world.gate.ask("/api", method=method, host=world.gate.host("one"), headers=named, body=body).status

        assert status(Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors") == 200
        assert status(**{k.replace("-", "_"): v for k, v in PAGE.items()}) == 200
        for site in ("same-site", "cross-site"):
            assert status(Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="image") == 403
            assert status(Sec_Fetch_Site=site, Sec_Fetch_Mode="cors", Origin=sibling) == 403
            assert status(Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe") == 403
            assert status("POST", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Origin=sibling) == 403
        assert status(Origin=sibling) == 403
        assert status("POST", Origin=own) == 200
        assert status("POST", Sec_Fetch_Site="same-origin") == 200
        assert status("POST") == 403
        assert status("POST", Origin="null") == 403
        assert status("POST", Origin=PORTAL) == 403
        assert status("POST", Origin=f"http://{world.gate.host('one')}.evil") == 403
        assert status("DELETE", Sec_Fetch_Site="none") == 403


class TestWhatEndsARight:
    """Whatever ends it: the next request is refused, and what is open is closed within seconds."""

    def hold(self, world: World, head: str) -> Callable[[], bool]:
        """Open a connection that would stream for ever; the answer tells whether it is closed."""
        arrived = threading.Event()

        def forever(talk: Any) -> None:
            talk.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" if asked.startswith(b"GET /ws") else
                             b"HTTP/1.1 200 OK\r\n\r\ndata")  # fmt: skip
            arrived.set()
            talk.rfile.read()

        asked = head.encode()
        world.behind.says[b"/ws"] = world.behind.says[b"/stream"] = forever
        sock = socket.create_connection(("127.0.0.1", world.gate.port), timeout=0.05)
        sock.sendall(asked)
        assert arrived.wait(5)

        def closed() -> bool:
            try:
                while sock.recv(1000):
                    pass
            except TimeoutError:
                return False
            except ConnectionError:
                pass
            sock.close()
            return True

        assert not closed()
        return closed

    @pytest.mark.parametrize("ending", ["stop", "log out", "deactivate", "password", "delete", "restart"])
    def test_a_browsers_right_ends(self, world: World, ending: str) -> None:
        alice = world.people.alice
        one = world.workspace(alice, "one")
        session = sign_in(alice)
        cookie = world.cookie(one, alice, session)
        assert world.visit("one", cookie).status == 200
        key = f"Host: {world.gate.host('one')}\r\nCookie: berth_gate={cookie}\r\n"
        upgrade = f"Origin: {world.gate.origin('one')}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        closed = [
            self.hold(world, f"GET /stream HTTP/1.1\r\n{key}\r\n"),
            self.hold(world, f"GET /ws HTTP/1.1\r\n{key}{upgrade}\r\n"),
        ]
        match ending:
            case "stop":
                world.stop(one)
            case "log out":
                SessionStore(session).delete()
            case "deactivate":
                User.objects.filter(pk=alice.pk).update(is_active=False)
            case "password":
                alice.set_password("another one entirely")
                alice.save()
            case "delete":
                Workspace.objects.filter(pk="one").update(deleted_at=clock.now())
            case "restart":
                world.open[0].allocation = "a-later"
                world.gate.targets["a-later"] = world.gate.targets["a-one"]
        world.events.put(None)
        wait_for(lambda: all(is_closed() for is_closed in closed), seconds=10, what="both connections to close")
        expected = {"stop": 503, "restart": 200}.get(ending, 401)
        assert world.visit("one", cookie).status == expected

    @pytest.mark.parametrize("ending", ["revoke", "expire", "deactivate", "stop"])
    def test_a_programs_right_ends(self, world: World, ending: str) -> None:
        alice = world.people.alice
        one = world.workspace(alice, "one")
        row, token = create_token(user=alice, name="ci", now=clock.now())
        bearer = {"Authorization": f"Bearer {token}"}
        assert world.gate.ask("/w/one/api", headers=bearer).status == 200
        closed = self.hold(world, f"GET /w/one/stream HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n")
        match ending:
            case "revoke":
                ApiToken.objects.filter(pk=row.pk).update(revoked_at=clock.now())
            case "expire":
                ApiToken.objects.filter(pk=row.pk).update(expires_at=clock.now())
            case "deactivate":
                User.objects.filter(pk=alice.pk).update(is_active=False)
            case "stop":
                world.stop(one)
        world.events.put(None)
        wait_for(closed, seconds=10, what="the connection to close")
        assert world.gate.ask("/w/one/api", headers=bearer).status == (404 if ending == "stop" else 401)

    def test_a_stopped_workspace_says_so_to_its_own_person(self, world: World) -> None:
        one = world.workspace(world.people.alice, "one")
        cookie = world.cookie(one, world.people.alice, sign_in(world.people.alice))
        assert world.visit("one", cookie).status == 200
        world.stop(one)

        def says_so() -> bool:
            try:
                return world.visit("one", cookie).status == 503
            except ConnectionError:  # a request that was under way when the right ended is cut off
                return False

        wait_for(says_so, seconds=10, what="the stop to be noticed")
        page = world.gate.ask("/lab", host=world.gate.host("one"), headers={**PAGE, "Cookie": f"berth_gate={cookie}"})
        assert b"not running" in page.body
        assert f"{PORTAL}/w/one".encode() in page.body


class TestTheTable:
    def test_what_is_known_asks_no_database(self, world: World, django_assert_num_queries: Any) -> None:
        one = world.workspace(world.people.alice, "one")
        cookie = world.cookie(one, world.people.alice, sign_in(world.people.alice))
        assert world.visit("one", cookie).status == 200
        before = len(world.loads)
        for _ in range(50):
            assert world.visit("one", cookie).status == 200
        assert len(world.loads) == before

    def test_a_fresh_cookie_is_good_before_the_next_load_and_after_one_that_is_under_way(self, world: World) -> None:
        gate, alice = threading.Event(), Key(user=1, workspace="one")

        async def load() -> Table:
            await asyncio.to_thread(gate.wait)
            return Table()

        async def story() -> None:
            rights = Rights(load=load, spacing_s=0)
            under_way = asyncio.create_task(rights.refresh())
            await asyncio.sleep(0.05)
            rights.learn("cookie:new", alice)
            assert rights.table.knows("cookie:new")
            gate.set()
            await under_way
            assert rights.table.knows("cookie:new")
            await rights.refresh()
            assert not rights.table.knows("cookie:new"), "a load that began later knows better"

        asyncio.run(story())

    def test_strangers_with_made_up_keys_cause_few_loads(self, world: World) -> None:
        world.workspace(world.people.alice, "one")
        before, began = len(world.loads), clock.monotonic()
        with ThreadPoolExecutor(20) as pool:
            replies = list(pool.map(lambda n: world.visit("one", f"made-up-{n}").status, range(200)))
        allowed = (clock.monotonic() - began) / 0.2 + 2
        assert set(replies) == {401}
        assert len(world.loads) - before <= allowed

    def test_a_load_takes_the_same_few_queries_however_much_there_is(
        self, world: World, django_assert_num_queries: Any
    ) -> None:
        database = Database(open_routes=lambda: world.open)
        for number in range(5):
            workspace = world.workspace(world.people.alice, f"w{number}")
            world.cookie(workspace, world.people.alice, sign_in(world.people.alice))
            create_token(user=world.people.alice, name="t", now=clock.now())
        with django_assert_num_queries(3):
            table = load_table(open_routes=lambda: world.open, now=clock.now())
        assert len(table.routes) == 5
        assert len(table.keys) == 10
        assert asyncio.run(database.table()) == table

    def test_while_the_database_is_away_the_last_table_serves_and_then_nothing_opens(self) -> None:
        good = True

        async def load() -> Table:
            if not good:
                raise OSError("the database is away")
            return Table()

        async def story() -> None:
            nonlocal good
            rights = Rights(load=load, spacing_s=0)
            assert not rights.fresh
            await rights.refresh()
            assert rights.fresh
            good = False
            await rights.refresh()
            assert rights.fresh
            still = clock.ManualClock(clock.now())
            still.advance(timedelta(days=365))
            with clock.using(still):
                assert not rights.fresh

        asyncio.run(story())
