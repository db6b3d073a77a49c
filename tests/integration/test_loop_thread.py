"""The loop in a process: it is woken, not polled; hints coalesce; a cycle that fails is told and stops nothing."""

import threading
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, connections, transaction
from django.test import Client

from portal.kernel import clock
from portal.kernel.locks import ring, seat
from scheduling import loop as loops
from scheduling import services, wiring
from scheduling.loop import Loop
from scheduling.models import Allocation, Job, LoopRecord
from scheduling.nodes.driver import Observation, Phase
from scheduling.records import cycles
from scheduling.services import JobSpec
from tests.hand_node import HandNode
from tests.people import make_people
from tests.quotas import guarantee
from tests.services import wait_for

NEVER_S = 3600.0


@pytest.fixture
def world(transactional_db):
    """People and a node; what they change rings the bell, as in the product."""
    before = wiring.wired()
    people, node = make_people(), HandNode()
    wiring.use(replace(wiring.wired(), hint_tick=loops.hint))
    yield SimpleNamespace(people=people, node=node)
    wiring.use(before)


@pytest.fixture
def started(world):
    """A loop without a period: nothing happens unless somebody rings."""
    loop = Loop(period_s=NEVER_S)
    loop.start()
    wait_for(lambda: loop.cycles, seconds=20, what="the first cycle")
    yield loop
    loop.stop()
    connections.close_all()


def submit(world, *, gpus=1):
    spec = JobSpec(name="x", image="x", limit=timedelta(hours=1), gpus=gpus, kind="batch")
    return services.submit_job(by=world.people.alice, team=world.people.red, spec=spec, now=clock.now())


def comes_to(job, state):
    wait_for(lambda: Job.objects.get(pk=job.pk).state == state, seconds=20, what=f"{job} to be {state}")


def seen_gone(world, job):
    for lead in Allocation.objects.filter(job=job, released_at__isnull=True, lead=True):
        world.node.report(Observation(str(lead.pk), Phase.GONE))


def test_a_submit_is_placed_without_waiting_for_the_period(world, started):
    comes_to(submit(world), "placed")


def test_an_ending_starts_who_waited_for_it(world, started):
    first, second = submit(world, gpus=2), submit(world, gpus=2)
    comes_to(first, "placed")
    services.cancel_job(job=first, now=clock.now())
    seen_gone(world, first)
    comes_to(second, "placed")


def test_a_changed_quota_is_acted_on_at_once(world, started):
    guarantee(world.people.red, 1, borrow_limit=0)
    comes_to(submit(world), "placed")
    second = submit(world)
    wait_for(lambda: Job.objects.get(pk=second.pk).hold_code, seconds=20, what="a reason to wait")
    call_command("set_quota", "red", "gpu", "--guaranteed", "2")
    comes_to(second, "placed")


def test_what_is_rolled_back_rings_no_bell(world, started):
    cycles = started.cycles
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        submit(world)
        raise ZeroDivisionError
    connection.close()
    assert started.cycles == cycles


def test_many_hints_during_a_cycle_lead_to_one_more(world, started, monkeypatch):
    goes_on, begun, real = threading.Event(), threading.Event(), loops.tick

    def slow(memory):
        begun.set()
        assert goes_on.wait(20)
        return real(memory)

    monkeypatch.setattr(loops, "tick", slow)
    before = started.cycles
    loops.hint()
    assert begun.wait(20)
    for _ in range(100):
        loops.hint()
    goes_on.set()
    wait_for(lambda: started.cycles >= before + 2, seconds=20, what="two cycles")
    with pytest.raises(AssertionError):
        wait_for(lambda: started.cycles > before + 2, seconds=0.5, what="a third one")


def test_without_any_hint_a_cycle_comes_by_itself(world):
    loop = Loop(period_s=0.2)
    loop.start()
    wait_for(lambda: loop.cycles > 3, seconds=20, what="some cycles")
    loop.stop()


def test_one_of_many_leads_and_another_follows_when_it_stops(world):
    several = [Loop(period_s=NEVER_S) for _ in range(3)]
    for loop in several:
        loop.start()
    (leader,) = wait_for(lambda: [loop for loop in several if loop.leads], seconds=20, what="a leader")
    comes_to(submit(world), "placed")
    assert [loop.cycles > 0 for loop in several].count(True) == 1
    leader.stop()
    wait_for(lambda: [loop for loop in several if loop.leads], seconds=20, what="a new leader")
    comes_to(submit(world), "placed")
    for loop in several:
        loop.stop()


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no sessions that could end")
def test_a_leader_whose_database_sessions_end_leads_again(world, started):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert cursor.fetchone()[0] >= 2, "its own session and the one that holds the lead"
    comes_to(submit(world), "placed")
    assert LoopRecord.objects.get().failures


def test_a_cycle_that_fails_is_told_and_the_next_one_comes(world, monkeypatch):
    real, broken = loops.tick, threading.Event()

    def tick(memory):
        if broken.is_set():
            raise ValueError("a plan that nobody can read")
        return real(memory)

    monkeypatch.setattr(loops, "tick", tick)
    loop = Loop(period_s=0.1)
    loop.start()
    wait_for(lambda: LoopRecord.objects.filter(cycle_at__isnull=False).exists(), seconds=20, what="a record")
    assert cycles.loop_status(now=clock.now()).well

    broken.set()
    wait_for(lambda: LoopRecord.objects.get().failing >= 2, seconds=20, what="two failures")
    status = cycles.loop_status(now=clock.now())
    assert not status.well
    assert "cycles failed" in status.sentence
    assert status.record.failure == "ValueError: a plan that nobody can read"
    page = Client()
    page.force_login(world.people.dana)
    shown = page.get("/scheduler").content.decode()
    assert "a plan that nobody can read" in shown
    assert "In trouble" in shown

    job = submit(world)
    broken.clear()
    comes_to(job, "placed")
    wait_for(lambda: not LoopRecord.objects.get().failing, seconds=20, what="a cycle that is well")
    loop.stop()
    record = LoopRecord.objects.get()
    assert record.failures >= 2, "what failed stays counted"
    assert "The last failure" in page.get("/scheduler/_loop").content.decode()


def test_a_failure_that_the_database_could_not_take_is_recorded_later(db, monkeypatch):
    record, now = cycles.Record(), clock.now()
    record.leads(now)
    with monkeypatch.context() as away:
        away.setattr(cycles.LoopRecord, "save", lambda self: (_ for _ in ()).throw(DatabaseError("away")))
        record.failed(ValueError("one"), now)
        record.failed(ValueError("two"), now)
    assert not LoopRecord.objects.exists()
    record.passed(took=timedelta(seconds=0.25), waiting=3, now=now)
    row = LoopRecord.objects.get()
    assert (row.failures, row.failing, row.failure, row.waiting) == (2, 0, "ValueError: two", 3)


def test_the_page_is_for_admins_only_and_says_when_nothing_runs(people):
    alice, dana = Client(), Client()
    alice.force_login(people.alice)
    dana.force_login(people.dana)
    assert alice.get("/scheduler").status_code == alice.get("/scheduler/_loop").status_code == 404
    assert "has not run yet" in dana.get("/scheduler").content.decode()
    LoopRecord.objects.create(leader="x:1", led_since_at=clock.now(), cycle_at=clock.now() - timedelta(minutes=1))
    assert "no worker process seems to run" in dana.get("/scheduler").content.decode()


def test_a_bell_that_nobody_sits_by_is_no_error(db):
    ring("nobody")
    with seat("somebody") as place:
        assert place.lead()
        assert not place.wait(0)
