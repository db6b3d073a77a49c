"""A portal on Docker that is killed leaves its walls standing; the tests take them away when they are done with it."""

import subprocess

import pytest

from scheduling.nodes.engine.names import Names
from tests.docker_engine import PrivateEngine
from tests.portal_api import PortalApi
from tests.portal_process import running_portal

pytestmark = pytest.mark.docker


def test_a_portal_killed_with_a_workspace_running_leaves_this_machine_as_it_was(
    engine: PrivateEngine, lab_image: str
) -> None:
    with running_portal(driver="docker", BERTH_DOCKER_HOST=engine.url) as portal:
        names = Names((portal.data / "site_id").read_text())
        PortalApi(portal).ready()
        portal.kill()
        assert f"BERTH-{names.tag}" in walls(), "what a killed portal leaves is what this is about"
        assert names.bridges in walls()
    assert f"BERTH-{names.tag}" not in walls()
    assert names.bridges not in walls()


def walls() -> str:
    looks = ("iptables -t mangle -S", "ip6tables -t mangle -S", "ip -brief link")
    return "".join(subprocess.run(look.split(), check=True, capture_output=True, text=True).stdout for look in looks)
