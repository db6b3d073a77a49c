"""Every rule by which a card is held back, each with its fault injected into a simulated card, and the way back."""

import pytest

from portal.kernel import clock
from scheduling import drains, gpu_health
from scheduling.models import Allocation, GpuEvent
from scheduling.nodes.health import Health, Process
from scheduling.nodes.simulated import Faults
from scheduling.nodes.simulated_health import GpuFaults
from scheduling.nodes.xids import XIDS, XidClass
from scheduling.selectors import job_details
from scheduling.services import cancel_job
from scheduling.snapshot import load_cluster
from tests.gpu_site import GpuSite

BY_CLASS = {kind: [number for number, (of, _) in XIDS.items() if of is kind] for kind in XidClass}
STRANGER = Process(pid=4711, memory_mib=2048, name="python3", allocation="")


@pytest.fixture
def site(db, manual_clock, people):
    made = GpuSite(manual_clock, people)
    yield made
    made.close()


def state(job):
    job.refresh_from_db()
    return job.state


# -- what the driver reports once ------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [*BY_CLASS[XidClass.NEWS], *BY_CLASS[XidClass.PROGRAM]])
def test_a_programs_own_error_marks_the_job_and_leaves_the_card_alone(site, number):
    job = site.run()
    uuid = site.uuid_of(job)
    site.health.xid(uuid, number)
    site.rounds()
    assert state(job) == "running"
    assert site.gpu(uuid).quarantined_at is None
    (event,) = GpuEvent.objects.all()  # told with every report, kept once
    assert (event.job, event.xid, event.gpu.uuid) == (job, number, uuid)
    assert f"Xid {number}" in job_details([job])[job.pk].trouble


@pytest.mark.parametrize("number", [*BY_CLASS[XidClass.CONTAINED], 999])
def test_an_error_that_can_wait_lets_what_runs_go_on_and_places_nothing_new(site, number):
    job = site.run()
    uuid = site.uuid_of(job)
    site.health.xid(uuid, number)
    site.rounds()
    assert state(job) == "running"
    assert f"Xid {number}" in site.gpu(uuid).quarantine_reason
    site.driver.inject(Faults(exit_after_s=0), allocation=str(Allocation.objects.get().pk))
    site.rounds()
    assert state(job) == "succeeded"
    big = site.submit(gpus=2)
    site.rounds()
    assert (state(big), site.gpu(uuid).quarantined_at is not None) == ("queued", True)


@pytest.mark.parametrize("number", [*BY_CLASS[XidClass.RESET], *BY_CLASS[XidClass.RESTART]])
def test_a_broken_card_loses_its_job_to_another_card_and_stays_out_until_the_machine_was_restarted(site, number):
    job = site.run()
    uuid = site.uuid_of(job)
    site.health.xid(uuid, number)
    site.rounds(4)
    assert (state(job), job.restarts) == ("running", 1)
    assert site.uuid_of(job) != uuid
    stop = job.transitions.filter(event="stop").get()
    assert stop.reason == "gpu_sick"
    assert f"Xid {number}" in stop.message
    site.new_agent()  # an agent that was started anew has nothing to tell of it
    site.rounds()
    assert site.gpu(uuid).quarantined_at is not None
    site.start()
    site.rounds()
    assert site.gpu(uuid).quarantined_at is None


def test_a_person_who_put_it_right_brings_it_back_with_the_next_clean_check(site, people):
    uuid = site.cards[0].uuid
    site.health.xid(uuid, 48)
    site.health.inject(uuid, GpuFaults(ecc_uncorrected=1))
    site.rounds()
    gpu_health.clear_quarantine(by=people.dana, node="n1", uuid=uuid)
    site.rounds()
    assert site.gpu(uuid).quarantine_code == "ecc"  # it was not reset
    site.health.inject(uuid, GpuFaults())
    site.rounds()
    assert site.gpu(uuid).quarantined_at is None
    with pytest.raises(gpu_health.NotQuarantined):
        gpu_health.clear_quarantine(by=people.dana, node="n1", uuid=uuid)


def test_a_lesser_error_does_not_cover_a_worse_one(site):
    uuid = site.cards[0].uuid
    for number in (79, 94, 13):
        site.health.xid(uuid, number)
        site.rounds(1)
    assert site.gpu(uuid).quarantine_code == "xid-79"
    assert GpuEvent.objects.count() == 3


def test_a_program_that_fails_in_a_loop_fills_no_table(site, monkeypatch):
    monkeypatch.setattr(gpu_health, "KEPT_EVENTS", 5)
    for _ in range(3):
        for _ in range(3):
            site.health.xid(site.cards[0].uuid, 31)
        site.rounds(1)
        site.health._xids.clear()
    assert GpuEvent.objects.count() == 5


# -- what shows as long as it is so -----------------------------------------------------------------------------------
HELD = {
    "ecc": GpuFaults(ecc_uncorrected=2),
    "remap-pending": GpuFaults(remap_pending=True),
    "recovery-drain": GpuFaults(recovery="drain"),
    "stranger": GpuFaults(strangers=(STRANGER,)),
}
SICK = {
    "lost": GpuFaults(lost=True),
    "remap-failed": GpuFaults(remap_failed=True),
    "recovery-reset": GpuFaults(recovery="reset"),
    "recovery-restart": GpuFaults(recovery="restart"),
}


@pytest.mark.parametrize(("code", "faults"), HELD.items())
def test_a_card_with_a_fault_that_can_wait_keeps_its_job_takes_no_other_and_comes_back(site, code, faults):
    job = site.run()
    uuid = site.uuid_of(job)
    site.health.inject(uuid, faults)
    site.rounds(4)
    card = site.gpu(uuid)
    assert (state(job), card.quarantine_code, bool(card.quarantine_reason)) == ("running", code, True)
    site.health.inject(uuid, GpuFaults())
    site.rounds()
    assert site.gpu(uuid).quarantined_at is None


@pytest.mark.parametrize(("code", "faults"), SICK.items())
def test_a_card_that_cannot_be_used_loses_its_job_and_comes_back_when_it_is_well(site, code, faults):
    job = site.run()
    uuid = site.uuid_of(job)
    site.health.inject(uuid, faults)
    site.rounds(4)
    assert (state(job), site.gpu(uuid).quarantine_code) == ("running", code)
    assert site.uuid_of(job) != uuid
    site.health.inject(uuid, GpuFaults())
    site.rounds()
    assert site.gpu(uuid).quarantined_at is None


def test_memory_above_the_baseline_that_nobody_holds_keeps_a_free_card_out(site):
    uuid = site.cards[0].uuid
    site.health.inject(uuid, GpuFaults(leaked_mib=500))  # what the driver itself needs
    site.rounds(4)
    assert site.gpu(uuid).quarantined_at is None
    site.health.inject(uuid, GpuFaults(leaked_mib=5000))
    site.rounds(4)
    assert (site.gpu(uuid).quarantine_code, "5,000 MiB" in site.gpu(uuid).quarantine_reason) == ("memory", True)
    both = site.submit(gpus=2)
    site.rounds()
    assert state(both) == "queued"
    site.health.inject(uuid, GpuFaults())
    site.rounds()
    assert state(both) == "running"


def test_while_the_driver_does_not_answer_work_goes_on_and_nothing_new_begins(site):
    job = site.run()
    site.health.unseen = True
    site.rounds(5)
    other = site.submit()
    site.rounds()
    assert (state(job), state(other)) == ("running", "queued")
    site.health.unseen = False
    site.rounds()
    assert state(other) == "running"


# -- nothing is handed over unclean -----------------------------------------------------------------------------------
def test_a_card_is_handed_on_only_when_the_process_before_has_let_go_of_it(site):
    first = site.run(gpus=2)
    uuid = site.cards[0].uuid
    site.health.inject(uuid, GpuFaults(lingers_s=8))
    second = site.submit(gpus=2)
    cancel_job(job=first, now=clock.now())
    site.step_s = 2
    seen = []
    for _ in range(8):
        site.rounds(1)
        lingers = any(process.pid >= 9_000_000 for reading in site.driver.gpu_health() for process in reading.processes)
        seen.append((lingers, state(second) != "queued"))
    assert (True, False) in seen
    assert (True, True) not in seen
    assert seen[-1] == (False, True)
    assert site.gpu(uuid).quarantined_at is None


def test_a_process_that_is_left_behind_for_good_ends_the_wait_with_a_quarantine(site):
    first = site.run(gpus=2)
    uuid = site.cards[0].uuid
    site.health.inject(uuid, GpuFaults(lingers_s=600))
    cancel_job(job=first, now=clock.now())
    second = site.submit(gpus=1)
    third = site.submit(gpus=1)
    site.rounds(8)
    assert (state(first), state(second), state(third)) == ("cancelled", "running", "queued")
    assert (site.gpu(uuid).quarantine_code, site.uuid_of(second)) == ("stranger", site.cards[1].uuid)
    site.step_s = 600
    site.rounds()
    site.step_s = 5
    site.rounds()
    assert state(third) == "running"


def test_nothing_is_started_on_a_card_that_became_dirty_since_it_was_placed_there(site):
    for card in site.cards:
        site.health.inject(card.uuid, GpuFaults(strangers=(STRANGER,)))
    site.step_s = 1
    job = site.submit()
    site.rounds(8)
    assert (state(job), len(site.machine.containers)) == ("placed", 0)
    for card in site.cards:
        site.health.inject(card.uuid, GpuFaults())
    site.rounds(4)  # it has gone by itself, before anybody was told
    assert (state(job), job.restarts) == ("running", 0)


def test_what_waits_to_start_on_a_card_that_stays_dirty_is_placed_elsewhere(site):
    job = site.submit()
    site.health.inject(site.cards[0].uuid, GpuFaults(strangers=(STRANGER,)))
    site.rounds(8)
    assert (state(job), job.restarts, site.uuid_of(job)) == ("running", 1, site.cards[1].uuid)
    assert site.machine.started == 1


# -- what the scheduler sees ------------------------------------------------------------------------------------------
def test_a_card_in_quarantine_is_broken_capacity_and_its_holder_falls_for_nobody(site, manual_clock):
    job = site.run()
    held = site.uuid_of(job)
    for card in site.cards:
        site.health.inject(card.uuid, GpuFaults(remap_pending=True))
    site.rounds(1)
    (node,) = load_cluster(manual_clock.now()).nodes
    (run,) = load_cluster(manual_clock.now()).runs
    assert ([site.gpu(held).pk], 1) == ([gpu.id for gpu in node.gpus], node.out_of_order)
    assert run.ask.min_runtime_s == run.ask.limit_s


def test_a_node_is_emptied_of_work_on_a_card_that_is_to_be_reset(site, people):
    job = site.run()
    site.health.inject(site.uuid_of(job), GpuFaults(remap_pending=True))
    site.rounds(2)
    plan = drains.show_drain(by=people.dana, name="n1", until=None, now=clock.now())
    assert [move.job for move in plan.moves] == [job.pk]
    drains.drain_node(by=people.dana, name="n1", until=None, now=clock.now())
    assert state(job) == "stopping"


def test_a_report_about_cards_of_another_node_changes_nothing(site, manual_clock, people):
    other = GpuSite(manual_clock, people, name="n2")
    other.health.inject(other.cards[0].uuid, GpuFaults(recovery="reset"))
    stolen = other.driver.gpu_health()
    gpu_health.record_health(
        site.row(),
        [Health(reading.gpu_uuid, recovery=reading.recovery) for reading in stolen],
        boot_id="boot-1",
        now=manual_clock.now(),
    )
    assert site.gpu(other.cards[0].uuid).quarantined_at is None
    other.close()


def test_work_whose_card_comes_into_quarantine_or_out_of_it_is_another_version_to_the_planner(site):
    job = site.run()
    versions = [job.version]
    for faults in (GpuFaults(remap_pending=True), GpuFaults()):
        site.health.inject(site.uuid_of(job), faults)
        site.rounds(3)
        assert state(job) == "running"
        versions.append(job.version)
    assert versions == [versions[0], versions[0] + 1, versions[0] + 2]
