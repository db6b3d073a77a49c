"""From submit to release through the real database, with a node that is moved by hand."""

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from portal.kernel import clock
from scheduling import services, wiring
from scheduling.core.lifecycle import EndReason, JobEvent
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from scheduling.enact import enact
from scheduling.models import Allocation, Gpu, Job, JobTransition, Node, Slot
from scheduling.nodes.driver import GpuInfo, Inventory, Observation, Phase
from scheduling.services import JobSpec
from scheduling.snapshot import load_cluster, seconds
from scheduling.tick import tick
from scheduling.transitions import StaleJob, move_job
from tests.hand_node import MACHINE, HandNode, node
from tests.people import make_people

__all__ = ["node"]


def submit(people, *, gpus=1, by=None, **spec):
    job_spec = JobSpec(
        name="lab", image="berth/lab:latest", limit=spec.pop("limit", timedelta(hours=1)), gpus=gpus, port=8888, **spec
    )
    return services.submit_job(by=by or people.alice, team=people.red, spec=job_spec, now=clock.now())


def states(*jobs):
    return [Job.objects.get(pk=job.pk).state for job in jobs]


def held_units():
    return sum(Gpu.objects.values_list("held_units", flat=True))


def test_a_job_goes_from_the_queue_to_running_and_back_to_a_free_slot(people, node):
    job = submit(people, gpus=2)
    node.tick()
    assert states(job) == ["placed"]
    assert held_units() == 84_000
    (part,) = node.desired()
    assert part.run
    assert {device.uuid for device in part.spec.devices} == {"SIM-0", "SIM-1"}
    node.say(Phase.STARTING, address=("10.0.0.2", 8888))
    assert states(job) == ["starting"]
    node.say(Phase.READY, address=("10.0.0.2", 8888))
    assert states(job) == ["running"]

    services.cancel_job(job=job, now=clock.now())
    assert states(job) == ["stopping"]
    assert not node.desired()[0].run
    assert held_units() == 84_000, "a slot is freed on observation, never on intent"
    node.say(Phase.GONE)
    assert states(job) == ["cancelled"]
    assert held_units() == 0
    assert not Allocation.objects.filter(released_at__isnull=True).exists()
    moves = JobTransition.objects.filter(job=job).values_list("event", flat=True)
    assert list(moves) == ["submit", "place", "launched", "ready", "stop", "released"]


def test_a_report_that_comes_twice_changes_nothing(people, node):
    job = submit(people)
    node.tick()
    for _ in range(3):
        node.say(Phase.READY, address=("10.0.0.2", 8888))
    services.cancel_job(job=job, now=clock.now())
    gone = [Observation(part.spec.allocation, Phase.GONE) for part in node.desired()]
    for _ in range(3):
        node.report(*gone)
    assert states(job) == ["cancelled"]
    assert held_units() == 0
    assert JobTransition.objects.filter(job=job).count() == 6


def test_the_second_job_waits_with_a_reason_and_starts_when_the_first_has_gone(people, node):
    first, second = submit(people, gpus=2), submit(people)
    node.tick()
    second.refresh_from_db()
    assert (second.state, second.hold_code) == ("queued", "gpus_busy")
    assert second.hold_numbers == {"free_gpus": 0, "gpus": 1, "position": 1}
    services.cancel_job(job=first, now=clock.now())
    node.tick()
    assert states(second) == ["queued"], "the first one's container has not been seen gone"
    node.say(Phase.GONE)
    node.tick()
    assert states(second) == ["placed"]


def test_a_refused_launch_ends_with_its_reason_and_leaves_the_slot_free(people, node):
    job = submit(people)
    node.tick()
    node.say(Phase.REFUSED, code="image-missing", message="There is no image x.")
    node.say(Phase.GONE)
    job.refresh_from_db()
    assert (job.state, job.end_reason, job.end_code) == ("failed", "launch_refused", "image-missing")
    assert job.end_message == "There is no image x."
    assert held_units() == 0


def test_the_first_reason_to_stop_is_kept(people, node):
    job = submit(people)
    node.start_everything()
    services.cancel_job(job=job, now=clock.now())
    node.say(Phase.EXITED, exit_code=137, code="killed", message="It was killed.")
    node.say(Phase.GONE)
    job.refresh_from_db()
    assert (job.state, job.end_reason) == ("cancelled", "cancel")


def test_a_server_that_ends_by_itself_fails_with_its_last_lines(people, node):
    job = submit(people)
    node.start_everything()
    node.say(Phase.EXITED, exit_code=3, code="exited", message="It ended with exit code 3.", log_tail="Traceback")
    node.say(Phase.GONE)
    job.refresh_from_db()
    assert (job.state, job.log_tail) == ("failed", "Traceback")


def test_a_server_that_is_shut_down_from_inside_has_succeeded(people, node):
    job = submit(people)
    node.start_everything()
    node.say(Phase.EXITED, exit_code=0)
    node.say(Phase.GONE)
    assert states(job) == ["succeeded"]


def test_a_container_that_vanished_is_not_started_again(people, node):
    job = submit(people)
    node.start_everything()
    node.say(Phase.GONE, code="vanished", message="Its container was removed from outside Berth.")
    job.refresh_from_db()
    assert (job.state, job.end_code) == ("failed", "vanished")
    assert held_units() == 0


def test_time_limits_count_running_time_only(people, node, manual_clock):
    job = submit(people, limit=timedelta(minutes=10))
    node.advance(manual_clock, minutes=30)
    node.start_everything()
    node.advance(manual_clock, minutes=9)
    node.tick()
    assert states(job) == ["running"]
    node.advance(manual_clock, minutes=1)
    node.tick()
    node.say(Phase.GONE)
    assert states(job) == ["timed_out"]


def test_a_node_whose_engine_is_away_gets_no_work_and_says_why(people, node):
    node.report(trouble="The Docker engine does not answer.")
    job = submit(people)
    node.tick()
    job.refresh_from_db()
    assert (job.state, job.hold_code) == ("queued", "no_nodes")
    node.report()
    node.tick()
    assert states(job) == ["placed"]


def test_the_same_trouble_is_news_once_however_long_its_words(node, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(3):
            node.report(trouble="The Docker engine does not answer. " * 20)
    assert node.hints == 1


def test_a_silent_node_gets_no_work(people, node, manual_clock):
    manual_clock.advance(timedelta(minutes=1))
    job = submit(people)
    node.tick()
    assert states(job) == ["queued"]


def test_a_queued_job_is_cancelled_at_once(people, node):
    job = submit(people)
    services.cancel_job(job=job, now=clock.now())
    assert states(job) == ["cancelled"]
    node.tick()
    assert states(job) == ["cancelled"]


def test_a_plan_made_before_a_cancel_places_nothing(people, node):
    job = submit(people)
    stale = plan(load_cluster(clock.now()), Policy(), seconds(clock.now()))
    services.cancel_job(job=job, now=clock.now())
    assert enact(stale, now=clock.now()).outdated == 1
    assert states(job) == ["cancelled"]
    assert held_units() == 0


def test_the_same_plan_enacted_twice_places_once(people, node):
    submit(people)
    once = plan(load_cluster(clock.now()), Policy(), seconds(clock.now()))
    assert enact(once, now=clock.now()).placed == 1
    assert enact(once, now=clock.now()).placed == 0
    assert Allocation.objects.count() == 1


def test_a_slot_that_another_scheduler_gave_away_is_not_given_again(people, node):
    first, second = submit(people), submit(people)
    both = plan(load_cluster(clock.now()), Policy(), seconds(clock.now()))
    cheat = both.places[0].parts[0].pieces[0].gpu
    # A second scheduler by mistake: it gave the slot of the first job to the second.
    Slot.objects.filter(gpu=cheat).update(layout_version=2)
    assert enact(both, now=clock.now()).outdated == 1
    assert sorted(states(first, second)) == ["placed", "queued"]


def test_the_database_refuses_a_second_holder_of_a_slot(people, node):
    job = submit(people)
    node.tick()
    held = Allocation.objects.get()
    with pytest.raises(IntegrityError), transaction.atomic():
        Allocation.objects.create(job=job, attempt=9, node=held.node, slot=held.slot, held_at=clock.now())


def test_the_database_refuses_a_gpu_that_holds_more_than_itself(node):
    with pytest.raises(IntegrityError), transaction.atomic():
        Gpu.objects.update(held_units=42_001)


def test_a_stale_row_cannot_move_a_job(people, node):
    job = submit(people)
    stale = Job.objects.get(pk=job.pk)
    node.tick()
    with pytest.raises(StaleJob):
        move_job(stale, JobEvent.END, now=clock.now(), reason=EndReason.CANCEL)
    assert JobTransition.objects.filter(job=job).count() == 2


def test_a_gpu_that_is_held_is_not_retired_by_an_inventory_without_it(people, node):
    submit(people)
    node.tick()
    one = Inventory(cpu_millis=4000, memory_mib=16384, gpus=MACHINE.gpus[1:], driver="docker")
    held = Allocation.objects.get().slot.gpu.uuid
    assert held == "SIM-0"
    node.report(inventory=one)
    assert Gpu.objects.get(uuid="SIM-0").retired_at is None
    node.say(Phase.GONE)


def test_an_unknown_memory_size_stays_unknown(node):
    odd = GpuInfo(uuid="GPU-x", index=0, model="NVIDIA Odd", memory_mib=None)
    node.report(inventory=Inventory(cpu_millis=1, memory_mib=1, gpus=(odd,), driver="docker"))
    assert Gpu.objects.get(uuid="GPU-x").memory_mib is None


def test_the_snapshot_takes_a_fixed_number_of_queries(people, node):
    submit(people)
    node.tick()
    counts = []
    for extra in (1, 10):
        for _ in range(extra):
            submit(people, gpus=0)
        with CaptureQueriesContext(connection) as queries:
            load_cluster(clock.now())
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_reports_of_unknown_allocations_are_ignored(node):
    node.report(Observation("424242", Phase.READY), Observation("../../etc", Phase.GONE))
    assert not Allocation.objects.exists()


def test_stop_all_ends_what_holds_a_slot_and_lets_the_queue_wait(people, node):
    running, waiting = submit(people, gpus=2), submit(people)
    node.start_everything()
    assert services.stop_all(reason=EndReason.PORTAL_STOPPED, now=clock.now()) == 1
    node.say(Phase.GONE)
    running.refresh_from_db()
    assert (running.state, running.end_reason) == ("cancelled", "portal_stopped")
    assert states(waiting) == ["queued"]


@pytest.mark.django_db(transaction=True)
def test_two_ticks_at_the_same_time_are_one(transactional_people_and_node):
    people, node = transactional_people_and_node
    jobs = [submit(people) for _ in range(2)]
    led = []

    def run():
        try:
            led.append(tick().led)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any(led)
    assert states(*jobs) == ["placed", "placed"]
    assert Allocation.objects.count() == 2
    assert Node.objects.count() == 1


@pytest.fixture
def transactional_people_and_node(transactional_db):
    before = wiring.wired()
    yield make_people(), HandNode()
    wiring.use(before)
