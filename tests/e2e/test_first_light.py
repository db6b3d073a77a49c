"""From nothing to a typed cell: start the portal, log in, click once, run `print(6*7)`, stop. With both drivers."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.docker_engine import PrivateEngine
from tests.portal_process import Portal, running_portal

ROOT = Path(__file__).resolve().parent.parent.parent
LAUNCH_MS = 60_000


@pytest.fixture(scope="module", params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def started(request: pytest.FixtureRequest) -> Iterator[Portal]:
    """The whole product on an empty folder, as `make up` starts it the first time."""
    environment = {}
    if request.param == "docker":
        engine: PrivateEngine = request.getfixturevalue("engine")
        request.getfixturevalue("lab_image")
        environment["BERTH_DOCKER_HOST"] = engine.url
    with running_portal(driver=request.param, **environment) as portal:
        yield portal


def test_a_person_logs_in_clicks_once_runs_a_cell_and_stops(started: Portal, page: Page) -> None:
    log_in(page, started)
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url(re.compile(r"http://w-[a-z0-9]+\.localhost:\d+/lab"), timeout=LAUNCH_MS)

    cell = new_notebook(page)
    cell.click()
    page.keyboard.type("print(6*7)")
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".jp-OutputArea-output").first).to_have_text("42", timeout=30_000)
    keep_picture(page, "jupyterlab")

    page.goto(started.url)
    entry = page.locator("li.berth")
    expect(entry).to_have_attribute("data-status", "ready")
    keep_picture(page, "home")
    entry.get_by_role("link", name="Stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(entry).to_have_attribute("data-status", "stopped", timeout=30_000)


def log_in(page: Page, portal: Portal) -> None:
    """As admin, with the password that the first start printed."""
    assert portal.password, portal.output()
    page.goto(portal.url)
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(portal.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Launch")).to_be_visible()


def new_notebook(page: Page) -> Locator:
    """A click on the launcher's Python card; answers the first cell, whose kernel is idle."""
    page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click(timeout=30_000)
    cell = page.locator(".jp-Notebook .jp-CodeCell .cm-content").first
    expect(cell).to_be_visible(timeout=30_000)
    # JupyterLab drops what is run before its session is connected; the status bar says when it is.
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=30_000)
    return cell


def keep_picture(page: Page, name: str) -> None:
    """The README's pictures are made here: SCREENSHOTS=1 make test ARGS=tests/e2e/test_first_light.py"""
    if os.environ.get("SCREENSHOTS") == "1":
        folder = ROOT / "docs" / "screenshots"
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{name}.png")
