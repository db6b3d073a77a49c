"""A real Chromium. What a failing test saw is kept in .cache/e2e."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent.parent
SEEN = ROOT / ".cache" / "e2e"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
]

expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Once per module: Playwright keeps an event loop in this thread, which other tests must not meet."""
    program = shutil.which("chromium")
    assert program, "Chromium is not installed: run tests/prepare.py as root"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A person's browser, with no cookies yet."""
    fresh = chromium.new_context(viewport={"width": 1280, "height": 800})
    yield fresh
    fresh.close()


@pytest.fixture
def page(context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    yield tab
    if request.node.stash.get(FAILED, False):
        SEEN.mkdir(parents=True, exist_ok=True)
        name = request.node.name.replace("/", "-")
        tab.screenshot(path=SEEN / f"{name}.png")
        (SEEN / f"{name}.txt").write_text("\n".join([tab.url, *complaints, "", tab.content()]))


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report
