"""Pages in a real Chromium over workspaces that stand still in every state: the machine is moved by hand."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from portal.kernel import clock
from scheduling.nodes.driver import Observation, Phase
from scheduling.nodes.exchange import DesiredPart
from tests.hand_node import HandNode
from tests.live_server import LiveServer, live_server
from tests.people import PASSWORD, People, make_people
from workspaces import services
from workspaces.images import ship_catalogue
from workspaces.models import Workspace


@dataclass
class Pages:
    """A portal whose one machine does what the test says."""

    server: LiveServer
    people: People
    node: HandNode

    def launch(self, name: str, **changes: Any) -> Workspace:
        form = {"team": "red", "image": "berth-lab", "gpus": 1, "cpu_millis": 500, "memory_mib": 1024}
        return services.launch_workspace(by=self.people.alice, name=name, now=clock.now(), **{**form, **changes})

    def one_of_each(self) -> dict[str, str]:
        """State -> the address of a workspace in it."""
        stopped = self.launch("stopped")
        services.stop_workspace(by=self.people.alice, workspace=stopped, now=clock.now())
        failed = self.launch("failed")
        self.node.tick()
        self.node.say(Phase.STARTING, address=("127.0.0.1", 1))
        self.node.say(
            Phase.EXITED, exit_code=1, code="oom-killed", message="It ran out of memory.", log_tail="MemoryError\n"
        )
        self.node.say(Phase.GONE)
        ready = self.launch("ready, größe & 実験")
        self.node.start_everything()
        pulling = self.launch("pulling")
        self.node.tick()
        self.node.report(
            *[
                self.node_says(part, Phase.PULLING, progress=(1_430_000_000, 3_310_000_000))
                if part.spec.job == str(pulling.job_id)
                else self.node_says(part, Phase.READY, address=("127.0.0.1", 1))
                for part in self.node.desired()
            ]
        )
        queued = self.launch("queued", gpus=2)
        self.node.tick()
        made = {"stopped": stopped, "failed": failed, "ready": ready, "pulling": pulling, "queued": queued}
        return {state: f"{self.server.url}/w/{workspace.pk}" for state, workspace in made.items()}

    @staticmethod
    def node_says(part: DesiredPart, phase: Phase, **facts: Any) -> Observation:
        return Observation(part.spec.allocation, phase, **facts)

    def log_in(self, page: Page, who: str = "alice") -> None:
        page.goto(f"{self.server.url}/login")
        page.get_by_label("User name").fill(who)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{self.server.url}/")


@pytest.fixture(scope="module", autouse=True)
def database_beside_playwright() -> Iterator[None]:
    """Playwright keeps an event loop in this thread, where Django would else refuse its synchronous database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield


@pytest.fixture
def pages(transactional_db: None, node: HandNode) -> Iterator[Pages]:
    ship_catalogue()
    people = make_people()
    with live_server() as server:
        yield Pages(server=server, people=people, node=node)


def complaints_of(context: BrowserContext) -> list[str]:
    """Whatever any page of this browser complains of: script errors, and breaches of the content security policy."""
    heard: list[str] = []
    context.on("weberror", lambda error: heard.append(str(error.error)))
    context.on("console", lambda message: heard.append(message.text) if "Security Policy" in message.text else None)
    return heard
