"""The node agent as a process of its own, against a live portal: joining, running, dying, and being cut off."""

import contextlib
import json
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request

import pytest
import redis
from jupyter_kernel_client import JupyterKernelClient

from scheduling.nodes.processes import tree
from tests.agent_process import AgentProcess, agent_folder
from tests.portal_api import PortalApi
from tests.portal_process import Portal, running_portal
from tests.services import redis_server, wait_for

LEASE_S = 10


@pytest.fixture(scope="module")
def site():
    """A portal whose own machine has no GPU, so that GPU work goes to the agent's node, and a short lease."""
    with running_portal(driver="process", BERTH_SIMULATED_GPUS="0", BERTH_NODE_LEASE=f"{LEASE_S}s") as portal:
        yield portal


@pytest.fixture
def agent():
    with agent_folder() as folder:
        yield folder


def join(portal: Portal, agent: AgentProcess, name: str, *more: str, token_options: tuple[str, ...] = ()) -> None:
    token = portal.manage("node_token", name, *token_options)
    agent.start("--join", portal.url, token, "--driver", "process", "--simulated-gpus", "1", *more)
    wait_for(lambda: "joined" in agent.output(), seconds=30, what="the agent to join")


def again(agent: AgentProcess) -> None:
    agent.start("--driver", "process", "--simulated-gpus", "1")


def query(portal: Portal, sql: str) -> list[tuple]:
    """Straight from the portal's database file: a management command would take a second of CPU for each look."""
    with contextlib.closing(sqlite3.connect(f"file:{portal.data}/berth.sqlite3?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def nodes(portal: Portal) -> dict[str, dict]:
    rows = query(
        portal,
        "SELECT n.name, n.state, n.trouble, n.facts, p.name, (SELECT count(*) FROM scheduling_gpu g "
        "WHERE g.node_id = n.id AND g.retired_at IS NULL) FROM scheduling_node n JOIN scheduling_pool p ON p.id = n.pool_id",
    )
    return {
        name: {"state": state, "trouble": trouble, "facts": json.loads(facts), "pool": pool, "gpus": gpus}
        for name, state, trouble, facts, pool, gpus in rows
    }


def ask(portal: Portal, path: str, body: object, key: str) -> tuple[int, dict]:
    request = urllib.request.Request(
        f"{portal.url}/api/v1/nodes/{path}",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def retire(portal: Portal, agent: AgentProcess, name: str) -> None:
    """So that the next test's work goes to its own node."""
    agent.kill()
    code = f"from scheduling.models import Node; Node.objects.filter(name='{name}').update(state='cordoned')"
    portal.manage("shell", "--no-imports", "-c", code)


def test_an_agent_joins_runs_a_workspace_dies_by_kill_9_and_adopts_it(site, agent):
    join(site, agent, "far", token_options=("--pool", "labs"))
    assert (agent.state / "membership.json").stat().st_mode & 0o777 == 0o600
    wait_for(lambda: "far" in nodes(site), seconds=20, what="the node to report")
    node = nodes(site)["far"]
    assert (node["gpus"], node["pool"], node["trouble"]) == (1, "labs", "")
    assert node["facts"]["disk_mib"] > 0

    api = PortalApi(site)
    made = api.ready(gpus=1)
    assert made["node"] == "far"
    # The page, a file and a kernel's socket go gateway -> agent -> workspace; the gateway has no other way there.
    bearer = {"Authorization": f"Bearer {api.token}"}
    with JupyterKernelClient(server_url=made["url"].rstrip("/"), token=None, headers=bearer) as kernel:
        reply = kernel.execute("import os; print(os.environ['BERTH_ALLOCATION'], 6 * 7)")
    assert reply["status"] == "ok"
    assert reply["outputs"][0]["text"].split()[-1] == "42"
    (before,) = _labs(agent)

    agent.kill()
    again(agent)  # without a token
    wait_for(lambda: agent.output().count("speaking for far") == 2, seconds=20, what="the agent to be back")
    time.sleep(3)
    assert _labs(agent) == [before], "the same process runs on"
    assert api.workspace(made["id"])["state"] == "ready"
    assert api.call("POST", f"workspaces/{made['id']}/stop")[0] == 200
    api.wait(made["id"], "stopped")
    assert _labs(agent) == []
    agent.stop()
    retire(site, agent, "far")


def test_work_survives_a_portal_that_is_away_for_less_than_the_lease_and_not_longer(site, agent):
    join(site, agent, "cut")
    api = PortalApi(site)
    made = api.ready(gpus=1)
    (before,) = _labs(agent)

    site.kill()
    time.sleep(3)
    site.start()
    assert _labs(agent) == [before]
    assert api.workspace(made["id"])["state"] == "ready"

    site.kill()
    wait_for(lambda: not _labs(agent), seconds=LEASE_S + 25, what="the agent to end what it may run no longer")
    assert "its lease is over" in agent.output()
    site.start()
    wait_for(lambda: _losses(site, made["id"]) == 1, seconds=30, what="its end with the node's loss as the reason")
    api.call("POST", f"workspaces/{made['id']}/stop")
    api.wait(made["id"], "stopped", "failed", seconds=60)
    retire(site, agent, "cut")


@pytest.mark.long
def test_an_agent_that_is_cut_off_is_lost_and_fenced_and_comes_back(site, agent):
    join(site, agent, "iced")
    api = PortalApi(site)
    made = api.ready(gpus=1)
    agent.pause()
    wait_for(lambda: nodes(site)["iced"]["state"] == "lost", seconds=LEASE_S + 15, what="the node to be lost")
    wait_for(lambda: nodes(site)["iced"]["state"] == "fenced", seconds=50, what="the node to be fenced")
    assert _labs(agent), "nobody could end it"
    assert api.workspace(made["id"])["state"] == "stopping", "it writes to a home, so it is not let go"
    agent.resume()
    wait_for(lambda: not _labs(agent), seconds=30, what="the agent to end it")
    wait_for(lambda: nodes(site)["iced"]["state"] == "ready", seconds=30, what="the node to be back")
    api.call("POST", f"workspaces/{made['id']}/stop")
    api.wait(made["id"], "stopped", "failed", seconds=60)
    retire(site, agent, "iced")


def test_a_stolen_key_is_worth_no_more_than_its_own_node(site, agent):
    join(site, agent, "robbed")
    wait_for(lambda: "robbed" in nodes(site), seconds=20, what="the node to report")
    key = agent.key()
    says = {"node": "local", "boot_id": "b", "agent": "thief", "start": 99, "sequence": 1}
    status, answer = ask(site, "exchange", says, key)
    assert (status, answer["code"]) == (403, "other-node")
    status, answer = ask(site, "exchange", {**says, "node": "robbed", "start": 1}, key)
    assert (status, answer["code"]) == (409, "second-agent")
    for path in ("workspaces", "workspaces/x", "nodes/join"):
        request = urllib.request.Request(f"{site.url}/api/v1/{path}", headers={"Authorization": f"Bearer {key}"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=20)
        assert refused.value.code in (401, 405)
    site.manage("node_token", "robbed", "--revoke")
    wait_for(lambda: "not the key of an enrolled node" in agent.output(), seconds=20, what="the agent to be refused")
    retire(site, agent, "robbed")


def test_a_copied_folder_does_not_make_a_second_agent(site, agent):
    join(site, agent, "twin")
    wait_for(lambda: "twin" in nodes(site), seconds=20, what="the node to report")
    code, words = agent.run("--driver", "process")
    assert code == 1
    assert "Another agent" in words
    with agent_folder() as copy:
        copy.state.mkdir()
        (copy.state / "membership.json").write_text((agent.state / "membership.json").read_text())
        copy.start("--driver", "process")
        wait_for(lambda: "Another agent already speaks" in copy.output(), seconds=20, what="the copy to be refused")
    retire(site, agent, "twin")


@pytest.mark.long
def test_an_agent_is_woken_through_redis_and_goes_on_without_it(agent):
    with redis_server() as url:
        with running_portal(
            driver="process", BERTH_SIMULATED_GPUS="0", BERTH_NODE_LEASE=f"{LEASE_S}s",
            BERTH_REDIS_URL=url, BERTH_NODE_REDIS_URL=url,
        ) as portal:  # fmt: skip
            join(portal, agent, "woken")
            wait_for(lambda: "woken through the broker" in agent.output(), seconds=30, what="the agent to listen")
            api = PortalApi(portal)
            made = api.ready(gpus=1)
            assert made["node"] == "woken"
            redis.Redis.from_url(url).shutdown(nosave=True)
            time.sleep(LEASE_S + 10)
            assert nodes(portal)["woken"]["state"] == "ready"
            assert len(_labs(agent)) == 1
            assert "lease is over" not in agent.output()
            # Whoever restarts Redis finds the work as it was.
            server = subprocess.Popen(
                ["redis-server", "--port", url.rpartition(":")[2].partition("/")[0], "--save", "", "--bind", "127.0.0.1"],
                stdout=subprocess.DEVNULL, cwd="/tmp",
            )  # fmt: skip
            try:
                wait_for(
                    lambda: agent.output().count("woken through the broker") == 2, seconds=40, what="to be woken again"
                )
                assert api.call("POST", f"workspaces/{made['id']}/stop")[0] == 200
                api.wait(made["id"], "stopped")
                agent.stop()
                portal.stop()
            finally:
                server.terminate()
                server.wait()


def test_one_agent_hosts_many_simulated_nodes(site, agent):
    token = site.manage("node_token", "sim", "--simulated", "20")
    agent.start("--join", site.url, token, "--simulated", "20", "--simulated-gpus", "4")
    wait_for(lambda: sum(name.startswith("sim-") for name in nodes(site)) == 20, seconds=60, what="20 nodes")
    assert all(node["gpus"] == 4 for name, node in nodes(site).items() if name.startswith("sim-"))
    agent.stop()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "belongs to no portal yet"),
        (["--driver", "process", "--join", "http://10.1.2.3:8000", "t"], "not encrypted"),
        (["--driver", "process", "--join", "ftp://x", "t"], "not an address"),
        (["--driver", "process", "--join", "http://localhost:1", "t"], "does not answer"),
        (["--driver", "podman"], "it may be one of"),
        (["--simulated", "many"], "whole number"),
    ],
)
def test_what_cannot_be_is_one_sentence(agent, arguments, words):
    code, said = agent.run(*arguments)
    assert code == 1
    assert words in said
    assert "Traceback" not in said


def test_a_machine_without_an_engine_does_not_use_its_token_up(site, agent):
    token = site.manage("node_token", "unfit")
    code, said = agent.run("--join", site.url, token, "--docker-host", "unix:///nowhere.sock")
    assert code == 1
    assert "preflight" in said
    assert query(site, "SELECT count(*) FROM scheduling_enrolment WHERE node_name = 'unfit'") == [(0,)]


def test_a_wrong_token_is_told_as_the_portal_says_it(site, agent):
    code, said = agent.run("--join", site.url, "-", "--driver", "process", told="join_wrong\n")
    assert code == 1
    assert "node_token" in said


def _labs(agent: AgentProcess) -> list[int]:
    """The process ids of the supervisor of each workspace of this agent."""
    site = (agent.state / "site_id").read_text().strip()
    return sorted(min(process.pid for process in found) for found in tree.processes_of(site).values())


def _losses(portal: Portal, workspace: str) -> int:
    """How often its jobs have stopped because of a lost node."""
    (row,) = query(
        portal,
        "SELECT count(*) FROM scheduling_jobtransition t JOIN scheduling_job j ON j.id = t.job_id "
        f"WHERE j.face = 'workspace.{workspace}' AND t.event = 'stop' AND t.reason = 'node_lost'",
    )
    return int(row[0])
