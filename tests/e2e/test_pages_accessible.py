"""axe finds nothing to object to on any page, in both themes; nothing scrolls sideways on a small phone."""

from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.e2e.pages_world import Pages, complaints_of, database_beside_playwright, pages
from tests.hand_node import node

__all__ = ["database_beside_playwright", "node", "pages"]

AXE = (Path(__file__).parents[1] / "vendor" / "axe-core@4.14.1" / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def objections(page: Page) -> list[str]:
    page.evaluate(AXE)  # by the debugger, which the page's policy does not bind
    result = page.evaluate("(rules) => axe.run({runOnly: rules})", RULES)
    assert len(result["passes"]) > 10, "axe did not look"
    return [
        f"{page.url}: {found['id']}: {found['help']}: {node['html']} {node.get('failureSummary', '')}"
        for found in result["violations"]
        for node in found["nodes"]
    ]


def states_of_the_pages(pages: Pages, page: Page):
    """Every page and state in turn, by name; the caller looks at each."""
    url = pages.server.url
    page.goto(f"{url}/login")
    yield "log-in"
    page.get_by_label("User name").fill("alice")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    yield "log-in refused"
    pages.log_in(page)
    yield "home, empty"
    addresses = pages.one_of_each()
    page.goto(url)
    yield "home"
    page.locator("details.change summary").click()
    yield "home, changing the launch"
    page.goto(f"{url}/launch")
    yield "launch"
    page.get_by_label("CPU").fill("many")
    page.get_by_role("button", name="Launch").click()
    yield "launch refused"
    for state, address in addresses.items():
        page.goto(address)
        assert page.locator("#status").get_attribute("data-status") == state
        yield state
    page.goto(addresses["stopped"])
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("dialog").wait_for()
    yield "delete, in a dialog"
    page.goto(addresses["ready"] + "/stop")
    yield "stop, as a page"
    page.goto(f"{url}/cluster")
    yield "machines"
    page.goto(f"{url}/nothing-here")
    yield "not found"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_objects_to_no_page(pages, context, page, theme):
    complaints = complaints_of(context)
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    found = [objection for _ in states_of_the_pages(pages, page) for objection in objections(page)]
    assert found == []
    assert complaints == []


def test_nothing_scrolls_sideways_at_320_pixels(pages, page):
    page.set_viewport_size({"width": 320, "height": 640})
    for name in states_of_the_pages(pages, page):
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, name


def test_targets_are_at_least_24_pixels(pages, page):
    page.set_viewport_size({"width": 360, "height": 640})
    small = """() => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary')]
        .filter((e) => e.checkVisibility() && !e.closest('p, h3') && !e.matches('.skip'))
        .map((e) => [(e.closest('label') ?? e).getBoundingClientRect(), e.outerHTML])
        .filter(([box]) => box.width < 24 || box.height < 24).map(([, html]) => html)"""
    for name in states_of_the_pages(pages, page):
        assert page.evaluate(small) == [], name


def test_the_keyboard_reaches_everything_and_sees_where_it_is(pages, page):
    pages.one_of_each()
    pages.log_in(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        outline, name = page.evaluate(
            "[getComputedStyle(document.activeElement.closest('label') ?? document.activeElement).outlineStyle,"
            " document.activeElement.innerText || document.activeElement.value]"
        )
        if page.evaluate("document.activeElement === document.body"):
            break
        assert outline != "none", name
        seen.append(name.split("\n")[0].strip())
    assert any(name.startswith("Launch") for name in seen)
    assert any(name.startswith("Open") for name in seen)
    assert any(name.startswith("Delete") for name in seen)
