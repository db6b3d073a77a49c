"""What a cluster does when a part of it goes: by the rules of the lease, and work that runs is not disturbed."""

import time

import pytest

from tests.cluster.cluster import Cluster, answers
from tests.cluster.work import Ask, cancel, containers, state, story, submit, until
from tests.integration.docker_cluster.conftest import LEASE_S
from tests.services import wait_for

pytestmark = pytest.mark.docker

FENCED_AFTER_S = LEASE_S + 20 + 10  # the lease, the grace that an agent gives, ten seconds


def test_a_web_process_that_is_stopped_is_missed_by_nobody(cluster: Cluster):
    (job,) = submit(cluster, Ask("steady"))
    until(cluster, [job], "running")
    (before,) = containers(cluster, [job])
    cluster.webs[0].stop()
    watch(cluster, seconds=LEASE_S + 2)
    cluster.webs[0].start()
    wait_for(lambda: answers(cluster.web_ports[0], "/healthz"), seconds=60, what="the web process")
    cluster.webs[1].kill()
    watch(cluster, seconds=3)
    cluster.webs[1].start()
    wait_for(lambda: answers(cluster.web_ports[1], "/healthz"), seconds=60, what="the web process")
    assert containers(cluster, [job]) == [before]
    cancel(cluster, job)


def test_a_worker_that_is_killed_is_replaced_by_the_other(cluster: Cluster):
    for worker, beat in zip(cluster.workers, cluster.beats, strict=True):
        worker.kill()
        beat.kill()
        (job,) = submit(cluster, Ask(f"without-{worker.name}"))
        until(cluster, [job], "running", seconds=30)
        cancel(cluster, job)
        worker.start()
        beat.start()


def test_without_redis_work_goes_on_and_new_work_starts_and_agents_listen_again_when_it_is_back(cluster: Cluster):
    (job,) = submit(cluster, Ask("before"))
    until(cluster, [job], "running")
    (before,) = containers(cluster, [job])
    woken = times_woken(cluster)
    cluster.redis.part.kill()
    (later,) = submit(cluster, Ask("meanwhile"))
    watch(cluster, seconds=LEASE_S + 2)
    assert containers(cluster, [job]) == [before]
    until(cluster, [later], "running", seconds=30)
    cluster.redis.part.start()
    cluster.redis.wait()
    wait_for(
        lambda: all(now > then for now, then in zip(times_woken(cluster), woken, strict=True)),
        seconds=60, what="every agent to be woken through Redis again",
    )  # fmt: skip
    cancel(cluster, job, later)


def test_a_node_that_is_cut_off_is_lost_then_fenced_and_comes_back_clean(cluster: Cluster):
    free, kept = submit(cluster, Ask("free"), Ask("kept", volume="kept"))
    until(cluster, [free, kept], "running")
    (first,) = containers(cluster, [free])
    (writer,) = containers(cluster, [kept])
    assert first.node == writer.node, "two small jobs are packed"
    node = cluster.nodes[first.node]

    cluster.network.unplug(node.name)
    cut = time.monotonic()
    wait_for(lambda: cluster.states()[node.name] == "lost", seconds=LEASE_S + 15, what="the node to be lost")
    lost_after = time.monotonic() - cut
    assert lost_after >= LEASE_S - 3, "its last answer may be one interval old"
    wait_for(lambda: state(cluster, free) == state(cluster, kept) == "stopping", seconds=10, what="its jobs to stop")
    assert held(cluster, free) == held(cluster, kept) == [node.name], "nobody else may have its cards yet"

    # Cut off from everybody, the agent itself ends what it may run no longer, before anybody else is let in.
    wait_for(lambda: not node.containers(), seconds=LEASE_S + 25, what="the agent to end what outlived the lease")
    assert time.monotonic() - cut < FENCED_AFTER_S
    assert cluster.states()[node.name] == "lost"

    wait_for(lambda: cluster.states()[node.name] == "fenced", seconds=40, what="the node to be fenced")
    assert time.monotonic() - cut >= FENCED_AFTER_S - 3
    until(cluster, [free], "running", seconds=60)
    (second,) = containers(cluster, [free])
    assert second.node != node.name
    assert state(cluster, kept) == "stopping", "agent and network may both be dead while it still writes to its volume"
    assert held(cluster, kept) == [node.name]

    cluster.network.plug(node.name)
    wait_for(lambda: cluster.states()[node.name] == "ready", seconds=60, what="the node to be back")
    until(cluster, [kept], "running", seconds=60)
    assert containers(cluster, [free]) == [second], "who has moved stays where it is"
    assert shown(cluster) == sorted(one.allocation for one in containers(cluster, [free, kept])), story(
        cluster, [free, kept]
    )
    cancel(cluster, free, kept)
    assert shown(cluster) == []


def test_a_cut_that_is_shorter_than_the_lease_disturbs_nobody(cluster: Cluster):
    (job,) = submit(cluster, Ask("short"))
    until(cluster, [job], "running")
    (before,) = containers(cluster, [job])
    cluster.network.unplug(before.node)
    time.sleep(LEASE_S * 0.4)
    cluster.network.plug(before.node)
    watch(cluster, seconds=LEASE_S)
    assert containers(cluster, [job]) == [before]
    assert state(cluster, job) == "running"
    cancel(cluster, job)


def watch(cluster: Cluster, *, seconds: float) -> None:
    """For so long every node stays ready."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        assert set(cluster.states().values()) == {"ready"}
        time.sleep(0.5)


def held(cluster: Cluster, job: int) -> list[str]:
    return [one.node for one in containers(cluster, [job])]


def shown(cluster: Cluster) -> list[int]:
    """The allocations whose containers any engine shows."""
    return sorted(
        int(one["Labels"]["berth.allocation"]) for node in cluster.nodes.values() for one in node.containers()
    )


def times_woken(cluster: Cluster) -> list[int]:
    """How often each agent has begun to listen."""
    return [node.agent.output().count("woken through the broker") for node in cluster.nodes.values()]
