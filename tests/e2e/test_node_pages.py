"""The pages on which machines are run, in a real Chromium: axe, both themes, a small phone, the keyboard, no script."""

import pytest
from playwright.sync_api import expect

from portal.kernel import clock
from scheduling import drains, observed
from scheduling.models import Node
from scheduling.nodes.exchange import Report
from scheduling.nodes.health import Health, Xid
from tests.e2e.pages_world import complaints_of, database_beside_playwright, pages
from tests.e2e.test_pages_accessible import objections
from tests.hand_node import node

__all__ = ["database_beside_playwright", "node", "pages"]

SMALL = """() => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary')]
    .filter((e) => e.checkVisibility() && !e.closest('p, h3') && !e.matches('.skip'))
    .map((e) => [(e.closest('label') ?? e).getBoundingClientRect(), e.outerHTML])
    .filter(([box]) => box.width < 24 || box.height < 24).map(([, html]) => html)"""


def break_card(number=48):
    health = (Health("SIM-0", boot_ms=9000, xids=(Xid(number, 9000),)), Health("SIM-1"))
    observed.exchange(Report(node="local", boot_id="boot-1", health=health), now=clock.now())


def states_of_the_pages(pages, page):
    """Every page and state in turn, by name; the caller looks at each."""
    url = pages.server.url

    def arrived(heading):
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        page.wait_for_load_state()

    pages.log_in(page, "dana")
    page.goto(f"{url}/nodes")
    yield "nodes"
    page.get_by_label("Name of the node").fill("Not a name")
    page.get_by_role("button", name="Make a token").click()
    expect(page.locator("#error-name")).to_be_visible()
    arrived("Nodes")
    yield "a bad name"
    page.get_by_label("Name of the node").fill("gpu-07")
    page.get_by_role("button", name="Make a token").click()
    arrived("A token for gpu-07")
    yield "the token"
    pages.launch("lab, größe & 実験 with a name that is rather long")
    pages.node.start_everything()
    page.goto(f"{url}/nodes/local")
    yield "one node"
    page.get_by_role("link", name="Drain").click()
    arrived("Empty local?")
    yield "drain"
    page.get_by_label("Stop what is left after").fill("many")
    page.get_by_role("button", name="Show the plan").click()
    expect(page.locator("#error-hours")).to_be_visible()
    arrived("Empty local?")
    yield "bad hours"
    page.get_by_label("Stop what is left after").fill("2")
    page.get_by_role("button", name="Show the plan").click()
    expect(page.get_by_text("then it is stopped and goes back")).to_be_visible()
    arrived("Empty local?")
    yield "drain by"
    page.get_by_role("button", name="Empty local").click()
    arrived("local")
    yield "draining"
    page.get_by_role("link", name="Return to service").click()
    arrived("Return local to service?")
    yield "return"
    page.get_by_role("button", name="Return it").click()
    arrived("local")
    page.get_by_role("link", name="Cordon").click()
    arrived("Start nothing new on local?")
    yield "cordon"
    page.get_by_role("button", name="Cordon it").click()
    arrived("local")
    yield "cordoned"
    break_card(94)
    page.goto(f"{url}/nodes/local")
    yield "quarantine"
    page.get_by_role("link", name="It was put right").click()
    arrived("Was GPU 0 of local put right?")
    yield "put right"
    page.goto(f"{url}/nodes")
    yield "nodes, one broken"
    page.goto(f"{url}/nodes/local/gone")
    page.get_by_label("Type local").fill("other")
    page.get_by_role("button", name="It is off").click()
    expect(page.locator("#error-typed")).to_be_visible()
    page.wait_for_load_state()
    yield "typed wrongly"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_objects_to_no_page(pages, context, page, theme):
    complaints = complaints_of(context)
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    found = [objection for _ in states_of_the_pages(pages, page) for objection in objections(page)]
    assert found == []
    assert complaints == []


def test_on_a_small_phone_nothing_scrolls_sideways_and_every_target_can_be_hit(pages, page):
    page.set_viewport_size({"width": 320, "height": 640})
    for name in states_of_the_pages(pages, page):
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, name
        assert page.evaluate(SMALL) == [], name


def test_a_node_is_drained_and_returned_by_keyboard(pages, page):
    pages.launch("lab")
    pages.node.start_everything()
    pages.log_in(page, "dana")
    page.goto(f"{pages.server.url}/nodes/local")

    def go(role, name):
        place = page.get_by_role(role, name=name)
        for _ in range(40):
            page.keyboard.press("Tab")
            if place.evaluate("e => e === document.activeElement"):
                return page.keyboard.press("Enter")
        raise AssertionError(f"the keyboard does not reach {name}")

    go("link", "Drain")
    expect(page.get_by_text("Stays for a while")).to_be_visible()
    assert Node.objects.get().state == "ready"
    go("button", "Empty local")
    expect(page.get_by_text("local is being emptied.", exact=True)).to_be_visible()
    assert Node.objects.get().state == "draining"
    go("link", "Return to service")
    go("button", "Return it")
    expect(page.get_by_text("local takes work again.")).to_be_visible()
    assert Node.objects.get().state == "ready"


def test_the_page_follows_and_keeps_the_focus(pages, page):
    pages.log_in(page, "dana")
    page.goto(f"{pages.server.url}/nodes/local")
    page.get_by_role("link", name="Drain").focus()
    break_card()
    expect(page.get_by_text("is in quarantine")).to_be_visible(timeout=10_000)
    assert page.evaluate("document.activeElement.id") == "do-drain"


def test_whose_machine_is_emptied_is_told_on_the_page_of_his_work(pages, page):
    workspace = pages.launch("lab")
    pages.node.start_everything()
    pages.log_in(page)
    page.goto(f"{pages.server.url}/w/{workspace.pk}")
    drains.drain_node(by=pages.people.dana, name="local", until=None, now=clock.now())
    expect(page.get_by_text("Its machine local is being emptied")).to_be_visible()


def test_everything_works_without_scripts(pages, chromium):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    names = list(states_of_the_pages(pages, page))
    assert names[-1] == "typed wrongly"
    context.close()
