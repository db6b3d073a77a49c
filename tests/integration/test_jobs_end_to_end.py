"""Batch jobs in the one-process portal, as plain processes."""

import pytest

from tests.job_stories import JobStories
from tests.portal_api import PortalApi
from tests.portal_process import Portal, running_portal


@pytest.fixture(scope="module")
def api():
    with running_portal(driver="process") as portal:
        yield PortalApi(portal)


class TestAsProcesses(JobStories):
    def addresses(self, job: int) -> tuple[str, str]:
        return "127.0.0.1", "127.0.0.1"


def test_a_job_whose_portal_was_killed_ends_once_and_well(tmp_path) -> None:
    with running_portal(driver="process") as portal:
        api = PortalApi(portal)
        job = api.submit(script="sleep 3; echo once >> once; cat once", name="survivor")
        api.wait_for_job(job, "running")
        restart(portal)
        seen = api.wait_for_job(job, "succeeded", "failed")
        assert (seen["state"], seen["attempt"], seen["log_tail"].strip()) == ("succeeded", 1, "once")


def restart(portal: Portal) -> None:
    portal.kill()
    portal.start()
