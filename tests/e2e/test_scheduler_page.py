"""The scheduler's page as an admin sees it, well and in trouble: readable for everybody, in both themes, on a phone."""

from datetime import timedelta

import pytest

from portal.kernel import clock
from scheduling.models import LoopRecord
from tests.e2e.pages_world import complaints_of, database_beside_playwright, pages
from tests.e2e.test_pages_accessible import objections
from tests.hand_node import node

__all__ = ["database_beside_playwright", "node", "pages"]


def record(**columns):
    now = clock.now()
    LoopRecord.objects.update_or_create(
        pk=1,
        defaults={
            "leader": "scheduler-host-with-a-long-name.example.org:12345",
            "led_since_at": now - timedelta(hours=3),
            "cycle_at": now,
            "took": timedelta(milliseconds=127),
            "waiting": 10_000,
            **columns,
        },
    )


def states(pages, page):
    page.goto(f"{pages.server.url}/scheduler")
    assert page.get_by_text("has not run yet").is_visible()
    yield "never ran"
    record()
    page.goto(f"{pages.server.url}/scheduler")
    assert page.get_by_text("All is well").is_visible()
    yield "well"
    failure = "CannotEnact: 3 suspends and 1 recuts: no driver can do either yet " + "x" * 200
    record(failing=4, failures=17, failed_at=clock.now(), failure=failure)
    page.goto(f"{pages.server.url}/scheduler")
    assert page.get_by_text("The last 4 cycles failed").is_visible()
    yield "failing"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_objects_to_nothing_and_nothing_scrolls_sideways_on_a_phone(pages, context, page, theme):
    complaints = complaints_of(context)
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    pages.log_in(page, "dana")
    for name in states(pages, page):
        assert objections(page) == []
        page.set_viewport_size({"width": 320, "height": 640})
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, name
        page.set_viewport_size({"width": 1280, "height": 800})
    assert complaints == []


def test_only_an_admin_is_led_there(pages, page):
    pages.log_in(page, "alice")
    page.goto(f"{pages.server.url}/cluster")
    assert page.get_by_role("link", name="Scheduler").count() == 0
    page.goto(f"{pages.server.url}/scheduler")
    assert "Page not found" in page.content() or "not found" in page.content().lower()
