"""Scheduler, agent and people at the same time, on real connections: nothing is held twice, nothing gets stuck."""

import threading
from datetime import timedelta

import pytest
from django.db import connections
from django.db.models import Sum

from portal.kernel import clock
from scheduling import services, wiring
from scheduling.core.lifecycle import FINAL
from scheduling.models import Allocation, Claim, Gpu, Job, Slot
from scheduling.nodes.driver import Observation, Phase
from scheduling.services import JobSpec
from scheduling.tick import tick
from tests.hand_node import HandNode
from tests.integration.test_evictions import FOUR
from tests.people import make_people
from tests.quotas import guarantee

ROUNDS = 25


@pytest.fixture
def world(transactional_db):
    before = wiring.wired()
    people, node = make_people(), HandNode(FOUR)
    guarantee(people.red, 2)
    guarantee(people.blue, 2)
    yield people, node
    wiring.use(before)


def submit(person, team, number):
    spec = JobSpec(
        name=f"{person}-{number}",
        image="x",
        limit=timedelta(hours=1),
        gpus=1 + number % 2,
        preemptible=True,
        kind="batch",
    )
    return services.submit_job(by=person, team=team, spec=spec, now=clock.now())


def report_everything(node):
    """What runs is ready, what should go is gone, and now and then a container has vanished."""
    for part in node.desired():
        vanished = part.run and part.launched and int(part.spec.allocation) % 7 == 0
        phase = Phase.READY if part.run and not vanished else Phase.GONE
        node.report(Observation(part.spec.allocation, phase, address=("127.0.0.1", 1)))


def test_scheduler_agent_and_people_work_at_the_same_time(world):
    people, node = world
    failures: list[BaseException] = []

    def repeated(work):
        def run():
            try:
                for number in range(ROUNDS):
                    work(number)
            except BaseException as failure:
                failures.append(failure)
            finally:
                connections.close_all()

        return threading.Thread(target=run)

    def people_act(person, team):
        def act(number):
            job = submit(person, team, number)
            if number % 3 == 2:
                services.cancel_job(job=job, now=clock.now())
            elif number % 3 == 1:
                for other in Job.objects.filter(owner=person).exclude(state__in=FINAL)[:1]:
                    services.cancel_job(job=other, now=clock.now())

        return act

    threads = [
        repeated(people_act(people.alice, people.red)),
        repeated(people_act(people.charlie, people.blue)),
        repeated(lambda _: tick()),
        repeated(lambda _: tick()),
        repeated(lambda _: report_everything(node)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    check_the_books()

    for _ in range(200):  # arrivals have stopped: everybody who is cancelled ends, everybody else gets his turn
        tick()
        report_everything(node)
        for job in Job.objects.filter(state="running"):
            services.cancel_job(job=job, now=clock.now())
        if not Job.objects.exclude(state__in=FINAL).exists():
            break
    check_the_books()
    assert not Job.objects.exclude(state__in=FINAL).exists()
    assert not Claim.objects.exists()
    assert not Slot.objects.exclude(held_by=None, claimed_for=None, claimed_over=None).exists()


def check_the_books():
    live = Allocation.objects.filter(released_at__isnull=True)
    for gpu in Gpu.objects.all():
        assert gpu.held_units == (live.filter(slot__gpu=gpu).aggregate(units=Sum("units"))["units"] or 0)
    for slot in Slot.objects.all():
        assert list(live.filter(slot=slot).values_list("job_id", flat=True)) == [j for j in [slot.held_by_id] if j]
