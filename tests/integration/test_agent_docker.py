"""The agent with a real Docker Engine: preflight, inventory, and a container that outlives a kill -9 of its agent."""

import pytest

from tests.agent_process import AgentProcess, agent_folder
from tests.docker_engine import TINY, PrivateEngine
from tests.docker_site import remove_site
from tests.integration.test_agent_process import nodes, query
from tests.portal_process import Portal, running_portal
from tests.services import wait_for

pytestmark = pytest.mark.docker

SUBMIT = f"""
from datetime import timedelta
from portal.kernel import clock
from scheduling.services import JobSpec, submit_job
from tenants.models import Team, User
spec = JobSpec(name="j", image="{TINY}", command=("sh", "-c", "exec sleep 1000"), limit=timedelta(hours=1), gpus=1,
               memory_mib=64)
print(submit_job(by=User.objects.get(username="admin"), team=Team.objects.get(slug="default"), spec=spec, now=clock.now()).pk)
"""
CANCEL = """
from portal.kernel import clock
from scheduling.models import Job
from scheduling.services import cancel_job
cancel_job(job=Job.objects.get(pk={job}), now=clock.now())
"""


def containers(engine: PrivateEngine, agent: AgentProcess) -> list[str]:
    site = (agent.state / "site_id").read_text().strip()
    client = engine.client()
    found = client.containers(filters={"label": f"berth.site={site}"})
    client.close()
    return [container["Id"] for container in found]


def state(portal: Portal, job: str) -> str:
    ((found,),) = query(portal, f"SELECT state FROM scheduling_job WHERE id = {job}")
    return str(found)


def test_preflight_finds_the_engine_and_says_what_it_warns_of(engine: PrivateEngine):
    with agent_folder() as agent:
        code, said = agent.run("preflight", "--docker-host", engine.url)
        assert code == 0, said
        assert "Docker Engine" in said
        assert "The agent can run here." in said
        code, said = agent.run("preflight", "--docker-host", "unix:///nowhere.sock")
        assert (code, "OBSTACLE" in said) == (1, True)


def test_a_container_outlives_a_kill_9_of_its_agent_and_is_adopted(engine: PrivateEngine):
    with running_portal(driver="process", BERTH_SIMULATED_GPUS="0") as portal, agent_folder() as agent:
        options = ("--docker-host", engine.url, "--simulated-gpus", "1")
        agent.start("--join", portal.url, portal.manage("node_token", "dock"), *options)
        wait_for(lambda: "dock" in nodes(portal), seconds=30, what="the node to report")
        facts = nodes(portal)["dock"]["facts"]
        assert facts["engine"].startswith("Docker ")
        assert "runc" in facts["runtimes"]
        assert facts["cgroup_driver"] in ("cgroupfs", "systemd")
        try:
            job = portal.manage("shell", "--no-imports", "-c", SUBMIT)
            wait_for(lambda: state(portal, job) == "running", seconds=60, what="the job to run")
            before = containers(engine, agent)
            assert len(before) == 1
            agent.kill()
            agent.start(*options)
            wait_for(lambda: agent.output().count("speaking for dock") == 2, seconds=20, what="the agent to be back")
            wait_for(
                lambda: query(portal, "SELECT start FROM scheduling_enrolment WHERE sequence > 2") == [(2,)],
                seconds=20, what="its reports",
            )  # fmt: skip
            assert containers(engine, agent) == before
            assert state(portal, job) == "running"
            portal.manage("shell", "--no-imports", "-c", CANCEL.format(job=job))
            wait_for(lambda: state(portal, job) == "cancelled", seconds=40, what="the job to end")
            assert containers(engine, agent) == []
            agent.stop()
        finally:
            agent.kill()
            remove_site(url=engine.url, data=agent.state, site=(agent.state / "site_id").read_text().strip())
