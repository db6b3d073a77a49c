"""Script in a notebook page is the workspace's, not the person's: it cannot read or set the portal's cookies, nor use
its sockets, forms or frames. Tried in Chromium, from a page of a real workspace."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.e2e.test_first_light import log_in
from tests.portal_api import PortalApi
from tests.portal_process import Portal, running_portal


@pytest.fixture(scope="module")
def started() -> Iterator[Portal]:
    with running_portal(driver="process") as portal:
        yield portal


@pytest.fixture(scope="module")
def workspace(started: Portal) -> dict[str, object]:
    return PortalApi(started).ready()


@pytest.fixture
def notebook_page(started: Portal, workspace: dict[str, object], page: Page) -> Page:
    """Signed in to the portal, and standing on a page of the workspace's own origin."""
    log_in(page, started)
    page.goto(f"{started.url}/w/{workspace['id']}")
    page.get_by_role("button", name="Open").first.click()
    page.wait_for_url(f"http://w-{workspace['id']}.localhost:{started.gateway_port}/lab**")
    # JupyterLab's own page: others of its server forbid by their own policy what we want to see the portal refuse.
    return page


def portal_cookies(context: BrowserContext, portal: Portal) -> dict[str, str]:
    return {cookie["name"]: cookie["value"] for cookie in context.cookies(portal.url)}


def test_it_cannot_read_the_portals_cookies(notebook_page: Page, started: Portal, context: BrowserContext) -> None:
    mine = portal_cookies(context, started)
    assert "sessionid" in mine
    visible = notebook_page.evaluate("document.cookie")
    assert "sessionid" not in visible
    assert "csrftoken" not in visible
    for value in mine.values():
        assert value not in visible


def test_it_cannot_set_cookies_for_the_portal(notebook_page: Page, started: Portal, context: BrowserContext) -> None:
    before = portal_cookies(context, started)
    for domain in ("localhost", ".localhost", ""):
        for name in ("sessionid", "csrftoken", "planted"):
            tail = f"; Domain={domain}" if domain else ""
            notebook_page.evaluate("text => { document.cookie = text }", f"{name}=evil{tail}; Path=/")
    assert portal_cookies(context, started) == before


def test_it_cannot_use_the_portals_sockets(notebook_page: Page, started: Portal) -> None:
    outcome = notebook_page.evaluate(
        """url => new Promise(done => {
            const socket = new WebSocket(url);
            socket.onopen = () => { socket.send('{"subscribe": ["person.me"]}'); };
            socket.onmessage = event => done('heard ' + event.data);
            socket.onclose = event => done('closed');
            setTimeout(() => done('silent'), 5000);
        })""",
        f"ws://localhost:{started.port}/ws/live",
    )
    assert outcome == "closed"


@pytest.mark.parametrize("path", ["/", "/launch", "/api/v1/workspaces"])
def test_it_cannot_read_the_portals_pages(notebook_page: Page, started: Portal, path: str) -> None:
    outcome = notebook_page.evaluate(
        "url => fetch(url, {credentials: 'include'}).then(a => a.text()).then(t => 'read ' + t.length, e => 'refused')",
        f"{started.url}{path}",
    )
    assert outcome == "refused"


def test_it_cannot_send_the_portals_forms(notebook_page: Page, started: Portal, workspace: dict[str, object]) -> None:
    program = PortalApi(started)
    for path in ("/launch", f"/w/{workspace['id']}/stop", "/logout"):
        notebook_page.evaluate(
            """url => fetch(url, {method: 'POST', credentials: 'include', mode: 'no-cors',
                 headers: {'Content-Type': 'application/x-www-form-urlencoded'}, body: 'gpus=0'}).catch(() => 0)""",
            f"{started.url}{path}",
        )
        # As a real form, which takes the whole page along: SameSite=Lax cookies stay home, and the portal says no.
        with notebook_page.expect_navigation() as navigation:
            notebook_page.evaluate(
                """url => { const form = document.createElement('form'); form.method = 'POST'; form.action = url;
                     document.body.append(form); form.submit(); }""",
                f"{started.url}{path}",
            )
        assert navigation.value.status == 403
        notebook_page.goto(f"http://w-{workspace['id']}.localhost:{started.gateway_port}/lab")
    _, listed = program.call("GET", "workspaces")
    assert [(one["id"], one["state"]) for one in listed["results"]] == [(workspace["id"], "ready")]
    notebook_page.goto(started.url)
    assert notebook_page.get_by_role("button", name="Launch").is_visible(), "still logged in"


def test_it_cannot_put_the_portal_into_a_frame(notebook_page: Page, started: Portal) -> None:
    notebook_page.evaluate(
        "url => { const f = document.createElement('iframe'); f.src = url; document.body.append(f); }", started.url
    )
    notebook_page.wait_for_timeout(1000)
    inside = [frame for frame in notebook_page.frames if frame is not notebook_page.main_frame]
    assert all("Launch" not in frame.content() for frame in inside if not frame.is_detached())
