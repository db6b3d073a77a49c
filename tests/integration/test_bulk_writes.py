"""A plan that moves thousands is written in a fixed number of statements, and one job that changed costs the others
nothing."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from portal.kernel import clock
from scheduling import services, wiring
from scheduling.core.decisions import Cause, Hold, HoldCode, Place, Plan
from scheduling.core.lifecycle import EndReason, JobEvent, JobState
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from scheduling.core.units import GPU_UNITS
from scheduling.enact import enact
from scheduling.models import Allocation, Claim, Gpu, Job, JobTransition, Node, Pool, Slot
from scheduling.records.holds import Told, store_holds
from scheduling.services import JobSpec
from scheduling.snapshot import load_cluster, seconds
from scheduling.transitions import StaleJob, lock_jobs, move_jobs
from tests.hand_node import HandNode, node
from tests.people import make_people
from tests.quotas import guarantee

__all__ = ["node"]

on_postgresql = pytest.mark.skipif(
    "connection.vendor != 'postgresql'", reason="SQLite has one writer, and splits long statements"
)


def a_farm(nodes: int) -> None:
    """Ready nodes with eight cards each."""
    pool, _ = Pool.objects.get_or_create(name="gpu")
    made = Node.objects.bulk_create(
        Node(
            name=f"farm-{n}", pool=pool, driver="simulated", cpu_millis=64_000, memory_mib=512_000, seen_at=clock.now()
        )
        for n in range(nodes)
    )
    cards = Gpu.objects.bulk_create(
        Gpu(node=node, uuid=f"{node.name}-{i}", index=i, model="Simulated GPU", memory_mib=81_920, simulated=True)
        for node in made
        for i in range(8)
    )
    Slot.objects.bulk_create(Slot(gpu=card, device_uuid=card.uuid) for card in cards)


def a_queue(people, many: int, *, team=None, owner=None, **spec) -> list[Job]:
    now = clock.now()
    asked = JobSpec(name="many", image="x", limit=timedelta(hours=1), gpus=1, **spec)
    return Job.objects.bulk_create(
        asked.as_job(team=team or people.red, owner=owner or people.alice, now=now) for _ in range(many)
    )


def a_plan():
    return plan(load_cluster(clock.now()), Policy(), seconds(clock.now()))


def queries(many: int, people) -> int:
    a_queue(people, many)
    decided = a_plan()
    assert len(decided.places) == many
    with CaptureQueriesContext(connection) as seen:
        assert enact(decided, now=clock.now()).placed == many
    return len(seen)


@on_postgresql
def test_ten_placements_and_a_thousand_take_the_same_number_of_statements(people, node):
    a_farm(130)
    assert queries(10, people) == queries(1000, people) < 40
    assert Allocation.objects.filter(released_at__isnull=True).count() == 1010
    assert Slot.objects.filter(held_by__isnull=False).count() == 1010
    assert JobTransition.objects.filter(event="place").count() == 1010
    assert set(Job.objects.values_list("state", "version", "attempt")) == {("placed", 2, 1)}


@on_postgresql
def test_ten_reasons_to_wait_and_a_thousand_take_the_same_number_of_statements(people, node):
    counts = []
    for many in (10, 1000):
        a_queue(people, many, replicas=3)
        with CaptureQueriesContext(connection) as seen:
            enact(a_plan(), now=clock.now())
        counts.append(len(seen))
    assert counts[0] == counts[1]
    assert Job.objects.exclude(hold_code="").count() == 1010


@on_postgresql
def test_ten_stops_and_a_thousand_take_the_same_number_of_statements(people, node, manual_clock):
    a_farm(130)
    counts = []
    for many in (10, 1000):
        jobs = a_queue(people, many)
        assert enact(a_plan(), now=clock.now()).placed == many
        manual_clock.advance(timedelta(minutes=11))
        Node.objects.update(seen_at=clock.now())
        with CaptureQueriesContext(connection) as seen:
            assert enact(a_plan(), now=clock.now()).stopped == many
        counts.append(len(seen))
        assert set(Job.objects.filter(pk__in=[job.pk for job in jobs]).values_list("end_reason", flat=True)) == {
            "place_timeout"
        }
    assert counts[0] == counts[1]


@on_postgresql
def test_four_evictions_and_thirty_take_the_same_number_of_statements(people, node, manual_clock):
    a_farm(10)
    guarantee(people.red, 82)
    lent = a_queue(people, 82, team=people.blue, owner=people.charlie, preemptible=True)
    assert enact(a_plan(), now=clock.now()).placed == 82, "the two of the node that is there anyway as well"
    Job.objects.update(state=JobState.RUNNING, version=4, running_at=clock.now(), since_at=clock.now())
    counts = []
    for many in (1, 4, 30):  # the first finds no claim there yet
        manual_clock.advance(timedelta(seconds=20))
        Node.objects.update(seen_at=clock.now())
        owners = a_queue(people, many)
        with CaptureQueriesContext(connection) as seen:
            outcome = enact(a_plan(), now=clock.now())
        assert (outcome.claimed, outcome.stopped, outcome.outdated) == (many, many, 0)
        counts.append(len(seen))
        assert Claim.objects.filter(job__in=owners).count() == many
    assert counts[1] == counts[2]
    assert Slot.objects.filter(claimed_for__isnull=False, claimed_over=F("held_by")).count() == 35
    assert Job.objects.filter(pk__in=[job.pk for job in lent], state="stopping", end_reason="evict").count() == 35


def test_what_changed_since_the_snapshot_is_left_out_and_all_else_is_placed(people, node):
    a_farm(5)
    jobs = a_queue(people, 40)
    decided = a_plan()
    cancelled, changed = jobs[7], jobs[23]
    services.cancel_job(job=cancelled, now=clock.now())
    Job.objects.filter(pk=changed.pk).update(version=5)
    lost = Slot.objects.get(gpu=decided.places[30].parts[0].pieces[0].gpu)
    Slot.objects.filter(pk=lost.pk).update(retired_at=clock.now())
    outcome = enact(decided, now=clock.now())
    assert (outcome.placed, outcome.outdated) == (37, 3)
    left = {cancelled.pk: "cancelled", changed.pk: "queued", decided.places[30].job: "queued"}
    for job in Job.objects.all():
        assert job.state == left.get(job.pk, "placed")
        assert job.allocations.count() == (0 if job.pk in left else 1)


def test_a_queue_that_is_turned_round_is_written_anew_bit_by_bit_the_front_at_once(
    people, node, django_capture_on_commit_callbacks
):
    jobs = [job.pk for job in a_queue(people, 700)]
    cause, told = Cause(HoldCode.GPUS_BUSY, (("gpus", 1),)), Told()

    def store(order):
        with django_capture_on_commit_callbacks(execute=True):
            store_holds([Hold(job, 1, cause) for job in order], None, told)

    def right(order):
        stored = dict(Job.objects.values_list("pk", "hold_numbers__position"))
        return [stored[job] == place for place, job in enumerate(order, start=1)]

    store(jobs)
    assert all(right(jobs))
    back = jobs[::-1]
    counts = []
    for _ in range(4):
        store(back)
        counts.append(sum(right(back)))
        assert all(right(back)[:50])
    assert counts[0] < 320, "a part of them, beside those who are there by chance"
    assert counts[0] < counts[1] < counts[2]
    # All are at their place now, or off it by less than a tenth.
    assert all(
        abs(Job.objects.get(pk=job).hold_numbers["position"] - place) * 10 <= place for place, job in enumerate(back, 1)
    )


def test_one_place_that_the_database_refuses_does_not_take_the_others_with_it(people, node):
    """A slot that looks free and has a live allocation all the same, as after a repair by hand."""
    a_farm(2)
    jobs = a_queue(people, 9)
    decided = a_plan()
    slot = Slot.objects.get(gpu=decided.places[4].parts[0].pieces[0].gpu)
    Allocation.objects.create(job=jobs[0], attempt=77, node=slot.gpu.node, slot=slot, held_at=clock.now())
    outcome = enact(decided, now=clock.now())
    assert (outcome.placed, outcome.outdated) == (8, 1)
    assert Job.objects.get(pk=decided.places[4].job).state == "queued"
    slot.refresh_from_db()
    assert slot.held_by_id is None


def test_a_plan_that_gives_one_card_to_two_jobs_gives_it_to_the_first(people, node):
    first, second = a_queue(people, 2)
    place = a_plan().places[0]
    twice = Plan(places=(place, Place(second.pk if place.job == first.pk else first.pk, 1, place.parts, place.pool)))
    outcome = enact(twice, now=clock.now())
    assert (outcome.placed, outcome.outdated) == (1, 1)
    assert Gpu.objects.get(pk=place.parts[0].pieces[0].gpu).held_units == GPU_UNITS


def test_jobs_of_several_states_stop_together_or_not_at_all(people, node):
    jobs = a_queue(people, 2)
    node.tick()
    with pytest.raises(StaleJob), transaction.atomic():
        locked = lock_jobs({job.pk: 2 for job in jobs})
        Job.objects.filter(pk=jobs[1].pk).update(state=JobState.STARTING, version=3)
        move_jobs(locked.values(), JobEvent.STOP, now=clock.now(), reason=EndReason.CANCEL)
    assert set(Job.objects.values_list("state", flat=True)) == {"placed"}
    with transaction.atomic():
        move_jobs(
            lock_jobs({jobs[0].pk: 2, jobs[1].pk: 9}).values(), JobEvent.STOP, now=clock.now(), reason=EndReason.CANCEL
        )
    assert sorted(Job.objects.values_list("pk", "state")) == [(jobs[0].pk, "stopping"), (jobs[1].pk, "placed")]
    assert JobTransition.objects.filter(event="stop").count() == 1


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_a_job_cancelled_while_the_plan_is_being_written_is_not_placed_and_the_others_are(transactional_db):
    """The cancellation commits between the snapshot and the lock: enact waits for its row, and then sees it."""
    before = wiring.wired()
    people, _ = make_people(), HandNode()
    try:
        a_farm(12)
        jobs = a_queue(people, 90)
        decided = a_plan()
        assert len(decided.places) == 90
        outcomes: list[object] = []

        def write():
            try:
                outcomes.append(enact(decided, now=clock.now()))
            finally:
                connections.close_all()

        with transaction.atomic():
            services.cancel_job(job=jobs[41], now=clock.now())
            writer = threading.Thread(target=write)
            writer.start()
            writer.join(1.0)
            assert writer.is_alive(), "it waits for the row that is being cancelled"
        writer.join(30)
        (outcome,) = outcomes
        assert (outcome.placed, outcome.outdated) == (89, 1)
        assert Job.objects.get(pk=jobs[41].pk).state == "cancelled"
        assert Allocation.objects.count() == 89
        assert not Allocation.objects.filter(job=jobs[41]).exists()
    finally:
        wiring.use(before)
