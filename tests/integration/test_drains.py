"""Taking machines out of use and back: the plan that is shown, and what then happens to those who run there."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from portal.kernel import clock
from scheduling import drains
from scheduling.models import Allocation, Job, Node
from scheduling.node_details import drain_view
from scheduling.nodes.driver import Observation, Phase
from scheduling.selectors import job_details
from scheduling.services import JobSpec, submit_job
from scheduling.snapshot import load_cluster
from scheduling.tick import tick
from tests.far_node import FarNode
from tests.integration.test_node_life import READY, time

__all__ = ["time"]


def submit(people, *, gpus=1, preemptible=True, hours=1, name="j", **more):
    spec = JobSpec(
        name=name, image="i", limit=timedelta(hours=hours), gpus=gpus, port=8888, preemptible=preemptible, **more
    )
    return submit_job(by=people.alice, team=people.red, spec=spec, now=clock.now())


def start(job, node):
    tick()
    for phase in (Phase.STARTING, Phase.READY):
        node.say(phase, **READY)
    assert state(job) == "running"
    return job


def state(job):
    job.refresh_from_db()
    return job.state


def shown(people, name="n1", until=None):
    return drain_view(drains.show_drain(by=people.dana, name=name, until=until, now=clock.now()), now=clock.now())


def drain(people, name="n1", until=None):
    return drains.drain_node(by=people.dana, name=name, until=until, now=clock.now())


def node_row(name="n1"):
    return Node.objects.get(name=name)


def test_what_is_shown_is_what_happens(time, people):
    one = FarNode("n1")
    moves = start(submit(people, name="moves"), one)
    stays = start(submit(people, name="stays", preemptible=False), one)
    two = FarNode("n2")
    plan = shown(people)
    assert [(line.job.name, line.to) for line in plan.moves] == [("moves", ("n2",))]
    assert [(line.job.name, line.leaves) for line in plan.stays] == [("stays", False)]
    assert (state(moves), node_row().state) == ("running", "ready")  # showing it changes nothing

    drain(people)
    assert (node_row().state, state(moves), state(stays)) == ("draining", "stopping", "running")
    assert (moves.end_reason, moves.end_message) == ("evict", "The machine n1 is being emptied.")
    (part,) = [part for part in one.report().parts if not part.run]
    assert part.spec.grace_s == 30  # the notice that an eviction gives
    one.report(*[_gone(part)])
    tick()
    assert state(moves) == "placed"
    assert Allocation.objects.get(job=moves, released_at__isnull=True).node.name == "n2"
    assert (moves.restarts, moves.may_evict_from) == (1, None)  # it was in nobody's way
    two.report()


def _gone(part):
    return Observation(part.spec.allocation, Phase.GONE)


def test_by_the_deadline_the_rest_leaves_too_and_was_told_before(time, people):
    one = FarNode("n1")
    job = start(submit(people, preemptible=False, hours=8), one)
    drain(people, until=clock.now() + timedelta(minutes=10))
    assert "2026-11-23 09:10 UTC" in job_details([job])[job.pk].trouble
    time.clock.advance(timedelta(minutes=9, seconds=59))
    drains.carry_out_drains(now=clock.now())
    assert state(job) == "running"
    time.clock.advance(timedelta(seconds=1))
    assert drains.carry_out_drains(now=clock.now()) == 1
    assert (state(job), job.end_code) == ("stopping", "drained")
    assert drains.carry_out_drains(now=clock.now()) == 0


def test_a_deadline_that_has_passed_is_refused(time, people):
    FarNode("n1")
    for act in (shown, drain):
        with pytest.raises(drains.DeadlinePassed):
            act(people, until=clock.now())


def test_work_inside_its_minimum_runtime_leaves_when_that_is_over(time, people):
    one = FarNode("n1")
    job = start(submit(people, min_runtime=timedelta(minutes=5)), one)
    drain(people)
    assert state(job) == "running"
    assert "minimum runtime" in job_details([job])[job.pk].trouble
    time.clock.advance(timedelta(minutes=5))
    drains.carry_out_drains(now=clock.now())
    assert state(job) == "stopping"


def test_a_gang_leaves_whole(time, people):
    one, two = FarNode("n1"), FarNode("n2")
    job = submit(people, gpus=2)
    Job.objects.filter(pk=job.pk).update(replicas=2)
    tick()
    for phase in (Phase.STARTING, Phase.READY):
        one.say(phase, **READY)
        two.say(phase, **READY)
    assert state(job) == "running"
    before = Node.objects.get(name="n2").desired_version
    drain(people)
    assert state(job) == "stopping"
    assert Node.objects.get(name="n2").desired_version > before
    assert [part.run for part in two.report().parts] == [False]


def test_cordoned_takes_nothing_new_keeps_what_it_has_and_returns(time, people):
    one = FarNode("n1")
    job = start(submit(people), one)
    drains.cordon_node(by=people.dana, name="n1")
    waits = submit(people)
    tick()
    assert (state(job), state(waits)) == ("running", "queued")
    with pytest.raises(drains.AlreadySo):
        drains.cordon_node(by=people.dana, name="n1")
    drains.return_node(by=people.dana, name="n1")
    tick()
    assert state(waits) == "placed"


def test_a_drain_that_is_taken_back_leaves_what_still_runs_alone(time, people):
    one = FarNode("n1")
    job = start(submit(people, preemptible=False), one)
    drain(people, until=clock.now() + timedelta(minutes=10))
    drains.return_node(by=people.dana, name="n1")
    time.clock.advance(timedelta(minutes=11))
    assert drains.carry_out_drains(now=clock.now()) == 0
    assert (state(job), node_row().drain_by) == ("running", None)


def test_what_is_asked_of_a_lost_node_it_comes_back_as(time, people):
    one = FarNode("n1")
    time.passes(35)
    assert node_row().state == "lost"
    drain(people)
    assert (node_row().state, node_row().returns_to) == ("lost", "draining")
    for _ in range(3):
        one.report()
    assert node_row().state == "draining"
    time.passes(65)
    for _ in range(3):
        one.report()
    assert node_row().state == "draining"  # and it is still to be emptied after it was lost once more


def test_a_draining_node_is_no_capacity_and_counts_as_draining(time, people):
    FarNode("n1")
    drain(people)
    (node,) = load_cluster(clock.now()).nodes
    assert (node.accepts, node.draining) == (False, True)


def test_others_than_staff_do_not_learn_that_there_is_such_a_machine(time, people):
    FarNode("n1")
    for person, name in ((people.alice, "n1"), (people.dana, "nobody")):
        with pytest.raises(drains.NoSuchMachine):
            drains.machine_of(person, name)


def test_the_command_shows_the_plan_and_asks_before_it_does_anything(time, people, capsys, monkeypatch):
    one = FarNode("n1")
    start(submit(people, name="train"), one)
    start(submit(people, name="notebook", preemptible=False, hours=3), one)
    call_command("drain", "n1", "--dry-run")
    said = capsys.readouterr().out
    assert "waits   job" in said
    assert "'train' of alice (red)" in said
    assert "stays   job" in said
    assert "n1 is empty by 2026-11-23 12:0" in said
    assert node_row().state == "ready"
    monkeypatch.setattr("builtins.input", lambda question: "n")
    call_command("drain", "n1")
    assert node_row().state == "ready"
    call_command("drain", "n1", "--within", "2h", "--yes")
    assert (node_row().state, node_row().drain_by) == ("draining", clock.now() + timedelta(hours=2))
    call_command("undrain", "n1")
    call_command("cordon", "n1")
    assert node_row().state == "cordoned"
    for bad in (["drain", "nobody", "--yes"], ["drain", "n1", "--within", "soon"], ["cordon", "n1"], ["undrain", "x"]):
        with pytest.raises(CommandError):
            call_command(*bad)
