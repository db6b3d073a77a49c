"""Pages follow what happens, with a socket, without one and without any script; a click is never counted twice."""

import re

import pytest
from playwright.sync_api import Page, expect

from portal.kernel import clock
from portal.kernel.publish import publish
from scheduling.nodes.driver import Phase
from tests.e2e.pages_world import Pages, complaints_of, database_beside_playwright, pages
from tests.hand_node import node
from workspaces import services
from workspaces.models import Workspace

__all__ = ["database_beside_playwright", "node", "pages"]

STARTING, READY = (Phase.STARTING, {"address": ("127.0.0.1", 1)}), (Phase.READY, {"address": ("127.0.0.1", 1)})
NO_SOCKET = "delete window.WebSocket"


def status_is(page: Page, status: str, seconds: float = 15) -> None:
    expect(page.locator("#status")).to_have_attribute("data-status", status, timeout=seconds * 1000)


def walk_to_ready(pages: Pages, page: Page) -> None:
    """The machine goes through a whole start while the page, which nobody touches, follows."""
    status_is(page, "queued")
    pages.node.tick()
    status_is(page, "placed")
    pages.node.say(Phase.PULLING, progress=(1_000_000_000, 4_000_000_000))
    status_is(page, "pulling")
    expect(page.get_by_text("25 % · 1,000 of 4,000 MB")).to_be_visible()
    pages.node.say(Phase.PULLING, progress=(3_000_000_000, 4_000_000_000))
    expect(page.get_by_text("75 % · 3,000 of 4,000 MB")).to_be_visible()
    pages.node.say(STARTING[0], **STARTING[1])
    status_is(page, "starting")
    expect(page.locator("#say")).to_have_text("JupyterLab is starting on local.")
    pages.node.say(READY[0], **READY[1])


@pytest.mark.parametrize("way", ["socket", "no WebSocket in the browser", "a proxy that refuses sockets"])
def test_from_log_in_two_clicks_start_a_lab_that_opens_by_itself(pages, context, page, way):
    complaints = complaints_of(context)
    if way == "no WebSocket in the browser":
        context.add_init_script(NO_SOCKET)
    pages.server.deaf = way == "a proxy that refuses sockets"
    entered: list[str] = []
    page.on("requestfailed", lambda request: entered.append(request.url) if "//w-" in request.url else None)
    pages.log_in(page)
    page.get_by_role("button", name="Launch").dblclick()
    page.wait_for_url(re.compile(r"/w/\w+\?open=1"))
    assert Workspace.objects.count() == 1
    # No gateway runs here: the way ends at the workspace's own origin, which the policy lets the form lead to.
    with page.expect_event("requestfailed", lambda request: "//w-" in request.url, timeout=60_000):
        walk_to_ready(pages, page)
    assert len(entered) == 1
    assert re.match(r"http://w-\w+\.localhost:8001/\S*ticket=", entered[0])
    assert complaints == []


def test_a_page_that_nobody_came_to_by_launching_does_not_open_by_itself(pages, page):
    workspace = pages.launch("lab")
    pages.log_in(page)
    page.goto(f"{pages.server.url}/w/{workspace.pk}")
    walk_to_ready(pages, page)
    status_is(page, "ready")
    expect(page.get_by_role("button", name="Open JupyterLab")).to_be_visible()
    assert page.title().startswith("Ready · lab")


def test_home_follows_without_losing_what_was_chosen_for_the_next_launch(pages, page):
    workspace = pages.launch("lab")
    pages.log_in(page)
    page.locator("details.change summary").click()
    page.get_by_label("CPU").fill("3")
    expect(page.locator("[data-shows=cpus]")).to_have_text("3")
    pages.node.start_everything()
    expect(page.locator(f"#w-{workspace.pk}")).to_have_attribute("data-status", "ready")
    expect(page.get_by_label("CPU")).to_have_value("3")
    page.get_by_role("link", name="Stop lab").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    pages.node.say(Phase.GONE)
    expect(page.locator(f"#w-{workspace.pk}")).to_have_attribute("data-status", "stopped")


def test_the_word_simulated_goes_with_the_gpus_that_are_chosen(pages, page):
    pages.log_in(page)
    page.locator("details.change summary").click()
    word = page.locator("#launch dl .tag")
    expect(word).to_be_visible()
    page.get_by_label("No GPU").check()
    expect(page.locator("[data-shows=gpus]")).to_have_text("No GPU")
    expect(word).to_be_hidden()
    page.get_by_label("1 GPU").check()
    expect(word).to_be_visible()


def test_seconds_tick_without_moving_anything(pages, page):
    pages.launch("lab")
    pages.log_in(page)
    seconds, verbs = page.locator("[data-elapsed]"), page.get_by_role("button", name="Cancel lab")
    before, place = seconds.inner_text(), verbs.bounding_box()
    expect(seconds).not_to_have_text(before)
    assert verbs.bounding_box() == place


def test_news_that_is_older_than_the_page_is_dropped(pages, page):
    workspace = pages.launch("lab")
    pages.node.start_everything()
    pages.log_in(page)
    page.goto(f"{pages.server.url}/w/{workspace.pk}")
    expect(page.locator("html[data-socket=open]")).to_be_attached()
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "_status" in request.url else None)
    for version in (1, 2, 99):
        publish("workspace", workspace.pk, job=workspace.job_id, version=version)
    with page.expect_response(re.compile("_status")) as answer:
        pass
    page.wait_for_timeout(2000)
    assert answer.value.status == 304
    assert len(asked) == 1


def test_an_open_question_is_not_pulled_away(pages, page):
    workspace = pages.launch("lab")
    pages.node.start_everything()
    pages.log_in(page)
    page.goto(f"{pages.server.url}/w/{workspace.pk}")
    page.get_by_role("link", name="Stop").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("your home folder")
    pages.node.say(Phase.EXITED, exit_code=1, code="exited", message="It ended.")
    page.wait_for_timeout(1500)
    status_is(page, "ready")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    status_is(page, "stopping")


def test_a_question_about_a_workspace_that_is_gone_is_answered_by_a_page(pages, page):
    workspace = pages.launch("lab")
    services.stop_workspace(by=pages.people.alice, workspace=workspace, now=clock.now())
    pages.log_in(page)
    page.wait_for_load_state("networkidle")
    Workspace.objects.update(deleted_at=clock.now())
    page.get_by_role("link", name="Delete lab").click()
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_when_the_server_is_silent_a_banner_says_so_and_goes_again(pages, context, page):
    page.clock.install()
    pages.launch("lab")
    pages.server.deaf = True
    pages.log_in(page)
    context.route("**/_workspaces", lambda route: route.abort())
    page.clock.run_for(17_000)
    expect(page.locator("#stale")).to_contain_text("No answer from Berth for 15 s")
    context.unroute("**/_workspaces")
    page.clock.run_for(12_000)
    expect(page.locator("#stale")).to_be_hidden()


def test_when_the_session_ends_the_page_goes_to_the_log_in_and_back(pages, page):
    workspace = pages.launch("lab")
    pages.log_in(page)
    address = f"{pages.server.url}/w/{workspace.pk}"
    page.goto(address)
    page.context.clear_cookies()
    publish("gateway", "all", user=pages.people.alice.pk)
    page.wait_for_url(re.compile(r"/login\?next=%2Fw%2F"))
    page.get_by_label("User name").fill("alice")
    page.get_by_label("Password").fill("correct horse battery staple")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(address)


def test_everything_works_without_scripts(pages, chromium):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    pages.log_in(page)
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url(re.compile(r"/w/\w+\?open=1"))
    expect(page.get_by_text("Waiting in the queue")).to_be_visible()
    pages.node.start_everything()
    expect(page.get_by_role("button", name="Open JupyterLab")).to_be_visible()  # the page reloads by itself
    page.get_by_role("link", name="Stop").click()
    expect(page.get_by_text("running kernels and terminals")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    pages.node.say(Phase.GONE)
    expect(page.get_by_text("Stopped").first).to_be_visible()
    page.reload()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("You have no workspaces yet")).to_be_visible()
    context.close()


def test_a_stored_theme_holds_before_the_first_paint(pages, page):
    page.emulate_media(color_scheme="light")
    pages.log_in(page)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("radio", name="Dark").check()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark
    page.get_by_role("radio", name="System").check()
    assert page.evaluate(ground) == light
