"""Deadlines that are asked for at the same moment, on real connections."""

import threading
from datetime import timedelta

import pytest
from django.db import connections

from portal.kernel import clock
from scheduling import services, wiring
from scheduling.models import Job
from scheduling.services import JobSpec
from tests.hand_node import MACHINE, HandNode
from tests.people import make_people

HOUR = timedelta(hours=1)


@pytest.fixture
def world(transactional_db, manual_clock):
    before = wiring.wired()
    yield make_people(), HandNode(MACHINE)
    wiring.use(before)


def test_of_two_deadlines_asked_for_at_the_same_moment_only_the_one_that_can_be_met_beside_the_other_is_accepted(
    world, monkeypatch
):
    """Both want all GPUs for the same hour. Whoever has been weighed waits for the other, as long as that may come."""
    people, _ = world
    met = threading.Barrier(2)

    def weigh(job, *, now):
        answer = weighed(job, now=now)
        try:
            met.wait(timeout=2)
        except threading.BrokenBarrierError:
            pass
        return answer

    weighed = services.weigh_deadline
    monkeypatch.setattr(services, "weigh_deadline", weigh)
    failures: list[BaseException] = []

    def submit():
        try:
            spec = JobSpec(name="work", image="x", kind="batch", gpus=2, limit=HOUR, deadline=clock.now() + 1.5 * HOUR)
            services.submit_job(by=people.alice, team=people.red, spec=spec, now=clock.now())
        except BaseException as failure:
            failures.append(failure)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=submit) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(Job.objects.values_list("deadline_accepted", flat=True)) == [False, True]
