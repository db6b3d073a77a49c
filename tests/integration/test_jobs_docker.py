"""Batch jobs in containers of a real engine, through the one-process portal."""

from typing import Any

import pytest

from tests.docker_engine import TINY, PrivateEngine
from tests.job_stories import OVER, JobStories
from tests.portal_api import PortalApi
from tests.portal_process import running_portal

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def api(engine: PrivateEngine):
    with running_portal(driver="docker", BERTH_DOCKER_HOST=engine.url) as portal:
        yield PortalApi(portal)


class TestInDocker(JobStories):
    def asked(self) -> dict[str, Any]:
        return {"image": TINY}

    def addresses(self, job: int) -> tuple[str, str]:
        return f"job-{job}-0", f"job-{job}-1"

    def test_replicas_on_one_machine_reach_each_other_by_name(self, api: PortalApi) -> None:
        script = """
            first=${BERTH_REPLICA_ADDRESSES%%,*}
            if [ $BERTH_REPLICA = 0 ]; then echo hello from $first | nc -l -p 5000
            else until nc $first 5000; do sleep 0.2; done; fi
        """
        job = api.submit(**self.asked(), script=script, replicas=2)
        assert api.wait_for_job(job, *OVER)["state"] == "succeeded"

    def test_without_an_image_it_is_refused_with_those_that_are_there(self, api: PortalApi) -> None:
        status, problem = api.call("POST", "jobs", {"team": "default", "command": ["true"]})
        assert (status, problem["field"]) == (422, "image")
        assert TINY in problem["detail"]

    def test_an_image_that_nobody_has_fails_with_the_reason(self, api: PortalApi) -> None:
        seen = self.run(api, image="localhost:1/none:1", command=["true"])
        assert (seen["state"], seen["exit_code"]) == ("failed", None)
        assert "localhost:1/none:1" in seen["reason"]
