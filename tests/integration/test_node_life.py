"""A node falls silent: lost, fenced, back again; and what becomes of the work that it had."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from portal.kernel import clock
from scheduling import node_life, wiring
from scheduling.models import Allocation, Job, Node
from scheduling.nodes.driver import Phase
from scheduling.services import JobSpec, submit_job
from scheduling.snapshot import load_cluster
from scheduling.tick import tick
from tests.far_node import FarNode
from tests.hand_node import HandNode

READY = {"address": ("10.0.0.2", 8888)}


@pytest.fixture
def time(db, manual_clock):
    before = wiring.wired()
    wiring.use(replace(before, hint_tick=lambda: None, wake_node=lambda name: None))
    node_life._last.clear()
    yield Time(manual_clock)
    wiring.use(before)


class Time:
    def __init__(self, clock: clock.ManualClock) -> None:
        self.clock = clock

    def passes(self, seconds: float, *answering: FarNode) -> None:
        """With a look at the nodes every 5 s and a last one at the end; `answering` report before each."""
        left = seconds
        while True:
            for node in answering:
                node.report()
            node_life.watch_nodes(now=clock.now())
            if left <= 0:
                return
            step = min(5.0, left)
            self.clock.advance(timedelta(seconds=step))
            left -= step


def state(name="n1"):
    return Node.objects.get(name=name).state


def run(people, *nodes, volume="", replicas=1, gpus=1):
    spec = JobSpec(name="j", image="i", limit=timedelta(hours=1), gpus=gpus, port=8888, volume=volume)
    job = submit_job(by=people.alice, team=people.red, spec=spec, now=clock.now())
    Job.objects.filter(pk=job.pk).update(replicas=replicas)
    tick()
    for phase in (Phase.STARTING, Phase.READY):
        for node in nodes:
            node.say(phase, **READY)
    job.refresh_from_db()
    assert job.state == "running"
    return job


def test_a_silent_node_is_lost_after_the_lease_and_fenced_when_nothing_can_run_there(time, people):
    node = FarNode()
    job = run(people, node)
    time.passes(29)
    assert (state(), Job.objects.get().state) == ("ready", "running")
    time.passes(1)
    job.refresh_from_db()
    assert (state(), job.state, job.end_reason) == ("lost", "stopping", "node_lost")
    assert "n1" in job.end_message
    time.passes(29)  # 59 s since its last answer: its containers may still be ending
    assert state() == "lost"
    assert Allocation.objects.filter(released_at__isnull=True).exists()
    time.passes(1)
    assert state() == "fenced"
    assert not Allocation.objects.filter(released_at__isnull=True).exists()


def test_a_job_that_writes_to_a_volume_waits_until_the_node_answers(time, people):
    node = FarNode()
    run(people, node, volume="home-alice")
    time.passes(300)
    assert state() == "fenced"
    assert Job.objects.get().state == "stopping"
    node.report()
    assert Job.objects.get().state == "stopping"
    node.say(Phase.GONE)
    assert Job.objects.get().state != "stopping"


def test_a_person_can_confirm_that_the_machine_is_off(time, people, capsys):
    node = FarNode()
    run(people, node, volume="home-alice")
    with pytest.raises(CommandError, match="ready"):
        call_command("node_gone", "n1")
    time.passes(35)
    call_command("node_gone", "n1")
    assert "1 containers" in capsys.readouterr().out
    assert (state(), Job.objects.get().state != "stopping") == ("fenced", True)
    with pytest.raises(CommandError):
        call_command("node_gone", "nobody")


def test_a_node_that_answers_takes_new_work_only_when_it_runs_nothing_else(time, people):
    node = FarNode()
    run(people, node)
    time.passes(70)
    assert state() == "fenced"
    node.report(orphans=1)  # what was given up still runs there
    assert state() == "returned"
    node.report(orphans=1)
    assert state() == "returned"
    assert [n.accepts for n in load_cluster(clock.now()).nodes] == [False]
    node.report(orphans=0)
    assert state() == "ready"
    assert [n.accepts for n in load_cluster(clock.now()).nodes] == [True]


def test_a_node_that_was_cordoned_comes_back_cordoned(time):
    node = FarNode()
    Node.objects.update(state="cordoned")
    time.passes(65)
    assert state() == "fenced"
    for _ in range(3):
        node.report()
    assert state() == "cordoned"


def test_only_the_lost_part_of_a_gang_waits_for_the_fence(time, people):
    one, two = FarNode("n1"), FarNode("n2")
    run(people, one, two, replicas=2, gpus=2)
    time.passes(30, two)
    assert (state("n1"), state("n2"), Job.objects.get().state) == ("lost", "ready", "stopping")
    assert [part.run for part in two.report().parts] == [False]
    two.say(Phase.GONE)
    assert [row.node.name for row in Allocation.objects.filter(released_at__isnull=True, lead=True)] == ["n1"]
    time.passes(30, two)
    assert not Allocation.objects.filter(released_at__isnull=True).exists()


def test_a_watcher_that_was_just_started_waits_the_whole_time_again(time, people):
    node = FarNode()
    run(people, node)
    time.passes(25)
    node_life._last.clear()  # another process takes over
    time.passes(29)
    assert state() == "ready"
    time.passes(1)
    assert state() == "lost"


def test_a_wall_clock_that_jumps_fences_nobody(time, people, monkeypatch):
    node = FarNode()
    run(people, node)
    time.passes(5)
    later = clock.now() + timedelta(days=1)
    node_life.watch_nodes(now=later)
    assert (state(), Job.objects.get().state) == ("ready", "running")


def test_the_portals_own_node_is_never_fenced(time, people):
    HandNode(name="local")
    time.passes(300)
    assert state("local") == "ready"


def test_what_its_agent_ended_with_the_lease_counts_as_lost_with_the_node(time, people):
    node = FarNode()
    job = run(people, node)
    (part,) = node.report().parts
    node.say(Phase.GONE, code="lease-over", message="It could not reach the portal.")
    job.refresh_from_db()
    moves = list(job.transitions.values_list("event", "reason"))
    assert ("stop", "node_lost") in moves
    assert job.state != "running"
