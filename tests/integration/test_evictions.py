"""Taking back what was lent, through the real database: notice, claim, release, placement, and what may go wrong."""

import importlib
import multiprocessing
import os
import signal
from dataclasses import replace
from datetime import timedelta

import pytest
from django.apps import apps
from django.db import IntegrityError, connections, transaction

from portal.kernel import clock
from scheduling import services, wiring
from scheduling.core.cluster import Instance, Part, Piece
from scheduling.core.decisions import Place, Plan, Recut, Stop, Suspend
from scheduling.core.lifecycle import EndReason
from scheduling.core.plan import plan
from scheduling.core.policy import Tier
from scheduling.enact import CannotEnact, enact
from scheduling.models import Allocation, Claim, ClaimedSlot, Gpu, Job, Node, NodeState, PastUse, Slot
from scheduling.nodes.driver import GpuInfo, Inventory, Observation, Phase
from scheduling.services import JobSpec
from scheduling.snapshot import load_cluster, seconds
from scheduling.tick import tick
from tests.hand_node import HandNode
from tests.people import make_people
from tests.quotas import guarantee

FOUR = Inventory(
    cpu_millis=64_000,
    memory_mib=512 * 1024,
    gpus=tuple(
        GpuInfo(uuid=f"SIM-{i}", index=i, model="Simulated GPU", memory_mib=81920, simulated=True) for i in range(4)
    ),
    boot_id="boot-1",
    driver="docker",
)


@pytest.fixture
def node(db, manual_clock):
    before = wiring.wired()
    yield HandNode(FOUR)
    wiring.use(before)


def submit(person, team, *, gpus=1, preemptible=True, **spec):
    asked = JobSpec(
        name="work", image="x", limit=timedelta(hours=10), gpus=gpus, preemptible=preemptible, kind="batch", **spec
    )
    return services.submit_job(by=person, team=team, spec=asked, now=clock.now())


def states(*jobs):
    return [Job.objects.get(pk=job.pk).state for job in jobs]


def stopping():
    return list(Job.objects.filter(state="stopping").order_by("pk"))


def gone(node, job):
    """The containers of this job are seen gone."""
    leads = Allocation.objects.filter(job=job, lead=True, released_at__isnull=True)
    node.report(*[Observation(str(lead.pk), Phase.GONE) for lead in leads])


@pytest.fixture
def lent(people, node):
    """Red and blue are guaranteed two cards each, and blue's four jobs run on all four."""
    guarantee(people.red, 2)
    guarantee(people.blue, 2)
    jobs = [submit(people.charlie, people.blue) for _ in range(4)]
    node.start_everything()
    assert states(*jobs) == ["running"] * 4
    return jobs


def reclaim(people, node, **spec):
    """Red asks for its two cards: two of blue's jobs are told to stop."""
    owner = submit(people.alice, people.red, gpus=2, **spec)
    outcome = node.tick().outcome
    assert (outcome.claimed, outcome.stopped, outcome.placed) == (1, 2, 0)
    return owner, stopping()


def test_the_owner_gets_its_cards_back_and_the_borrowers_return_to_the_queue(people, node, lent, manual_clock):
    owner, victims = reclaim(people, node)
    assert Job.objects.get(pk=owner.pk).hold_code == "claimed"
    assert [job.end_reason for job in victims] == ["evict", "evict"]
    assert {part.spec.grace_s for part in node.desired() if not part.run} == {30}
    assert Slot.objects.filter(claimed_for=owner).count() == 2

    node.advance(manual_clock, seconds=5)
    gone(node, victims[0])
    assert states(victims[0]) == ["queued"]
    back = Job.objects.get(pk=victims[0].pk)
    assert back.submitted_at == victims[0].submitted_at
    assert back.may_evict_from == clock.now() + timedelta(minutes=10)
    assert (back.restarts, back.end_reason, back.running_at) == (1, "", None)
    node.tick()
    assert states(owner, victims[0]) == ["queued", "queued"], "the freed card is kept, and one victim is still there"

    gone(node, victims[1])
    assert node.tick().outcome.placed == 1
    assert states(owner) == ["placed"]
    assert not Claim.objects.exists()
    assert not Slot.objects.filter(claimed_for__isnull=False).exists()
    assert states(*victims) == ["queued", "queued"]


def test_the_database_lets_nobody_else_have_a_claimed_slot(people, node, lent):
    owner, victims = reclaim(people, node)
    slot = Slot.objects.filter(claimed_for=owner).first()
    gone(node, victims[0])
    gone(node, victims[1])
    for thief in (lent[0], victims[0]):
        with pytest.raises(IntegrityError), transaction.atomic():
            Slot.objects.filter(pk=slot.pk).update(held_by=thief)
    Slot.objects.filter(pk=slot.pk).update(held_by=owner)


def test_a_slot_is_claimed_for_one_job_only(people, node, lent):
    owner, _ = reclaim(people, node)
    claimed = ClaimedSlot.objects.filter(slot__isnull=False).first()
    with pytest.raises(IntegrityError), transaction.atomic():
        ClaimedSlot.objects.create(claim=claimed.claim, part=9, node=claimed.node, slot=claimed.slot)


def test_a_place_that_was_planned_before_the_claim_is_left_out(people, node, lent):
    """Another scheduler by mistake: it places somebody on the card that is being kept."""
    owner, victims = reclaim(people, node)
    gone(node, victims[0])
    card = Slot.objects.get(claimed_for=owner, held_by__isnull=True).gpu_id
    other = submit(people.charlie, people.blue)
    wrong = Place(other.pk, 1, (Part(Node.objects.get().pk, (Piece(card, 42_000),), 1000, 1024),), "gpu")
    assert enact(Plan(places=(wrong,)), now=clock.now()).outdated == 1
    assert states(other) == ["queued"]


def test_when_the_owner_cancels_the_cards_are_everybodys_again_and_the_victims_come_back(people, node, lent):
    owner, victims = reclaim(people, node)
    services.cancel_job(job=owner, now=clock.now())
    assert not Claim.objects.exists()
    assert not Slot.objects.filter(claimed_for__isnull=False).exists()
    for victim in victims:
        gone(node, victim)
    node.tick()
    assert states(owner, *victims) == ["cancelled", "placed", "placed"]
    assert {Job.objects.get(pk=victim.pk).attempt for victim in victims} == {2}


def test_no_victim_falls_when_one_of_them_changed_since_the_snapshot(people, node, lent):
    submit(people.alice, people.red, gpus=2)
    stale = plan(load_cluster(clock.now()), wiring.wired().policy, seconds(clock.now()))
    first, second = (stop.job for stop in stale.stops)
    services.cancel_job(job=Job.objects.get(pk=second), now=clock.now())
    outcome = enact(stale, now=clock.now())
    assert (outcome.claimed, outcome.stopped, outcome.outdated) == (0, 0, 1)
    assert Job.objects.get(pk=first).state == "running"
    assert not Claim.objects.exists()


def test_no_victim_falls_when_the_owner_cancelled_since_the_snapshot(people, node, lent):
    owner = submit(people.alice, people.red, gpus=2)
    stale = plan(load_cluster(clock.now()), wiring.wired().policy, seconds(clock.now()))
    services.cancel_job(job=owner, now=clock.now())
    assert enact(stale, now=clock.now()).outdated == 1
    assert states(*lent) == ["running"] * 4


def test_a_claim_that_comes_to_nothing_expires(people, node, lent, manual_clock):
    owner, victims = reclaim(people, node)
    node.advance(manual_clock, minutes=5)
    node.tick()
    assert not Claim.objects.exists()
    assert Job.objects.get(pk=owner.pk).hold_code != "claimed"
    assert len(stopping()) == 2, "nobody else falls in their place"


def test_a_late_cycle_still_fulfils_a_claim_whose_victims_are_gone(people, node, lent, manual_clock):
    owner, victims = reclaim(people, node)
    for victim in victims:
        gone(node, victim)
    node.advance(manual_clock, minutes=5)
    node.tick()
    assert states(owner) == ["placed"]


def test_a_claim_ends_with_its_node(people, node, lent, manual_clock):
    owner, victims = reclaim(people, node)
    for victim in victims:
        gone(node, victim)
    Node.objects.update(state="draining")
    node.tick()
    assert not Claim.objects.exists()
    assert states(owner) == ["queued"]


def test_a_claim_whose_job_waits_no_more_bars_nobody_after_the_next_cycle(people, node, lent):
    """A cancellation in the very moment in which the claim is made does not see it."""
    owner, victims = reclaim(people, node)
    Job.objects.filter(pk=owner.pk).update(state="cancelled", ended_at=clock.now())
    node.tick()
    assert not Claim.objects.exists()
    assert not Slot.objects.filter(claimed_for__isnull=False).exists()


def test_a_claimed_place_that_is_gone_is_given_up(people, node, lent):
    owner, victims = reclaim(people, node)
    for victim in victims:
        gone(node, victim)
    lost = Slot.objects.filter(claimed_for=owner).first()
    Slot.objects.filter(pk=lost.pk).update(layout_version=7)
    assert node.tick().outcome.outdated == 1
    assert not Claim.objects.exists()
    Slot.objects.filter(pk=lost.pk).update(layout_version=1)
    node.tick()
    assert states(owner) == ["placed"]


def test_a_victim_that_runs_elsewhere_again_is_not_waited_for(people, node, lent):
    owner, victims = reclaim(people, node)
    other = HandNode(
        replace(FOUR, gpus=tuple(replace(gpu, uuid=f"NEW-{gpu.index}", index=gpu.index) for gpu in FOUR.gpus)), "second"
    )
    gone(node, victims[0])
    node.tick()
    assert states(victims[0], owner) == ["placed", "queued"]
    assert Allocation.objects.get(job=victims[0], released_at__isnull=True).node.name == other.name
    gone(node, victims[1])
    node.tick()
    assert states(owner) == ["placed"]


def test_who_cancels_a_job_that_is_being_evicted_does_not_see_it_again(people, node, lent):
    _, victims = reclaim(people, node)
    services.cancel_job(job=victims[0], now=clock.now(), message="You stopped it.")
    gone(node, victims[0])
    ended = Job.objects.get(pk=victims[0].pk)
    assert (ended.state, ended.end_reason, ended.end_message) == ("cancelled", "cancel", "You stopped it.")
    assert ended.ended_at == clock.now()


def test_work_that_may_not_be_evicted_stays(people, node):
    guarantee(people.red, 2)
    guarantee(people.blue, 4)
    firm = submit(people.charlie, people.blue, gpus=4, preemptible=False)
    node.start_everything()
    submit(people.alice, people.red, gpus=2)
    node.tick()
    assert states(firm) == ["running"]


def test_work_within_its_minimum_runtime_is_left_alone(people, node, manual_clock):
    people.blue.min_runtime = timedelta(hours=1)
    people.blue.save()
    guarantee(people.red, 2)
    jobs = [submit(people.charlie, people.blue) for _ in range(4)]
    node.start_everything()
    submit(people.alice, people.red)
    node.tick()
    assert states(*jobs) == ["running"] * 4
    node.advance(manual_clock, hours=1)
    node.tick()
    assert len(stopping()) == 1


def test_a_gang_is_placed_whole_or_not_at_all(people, node):
    gang = submit(people.alice, people.red, gpus=1, replicas=3)
    whole = plan(load_cluster(clock.now()), wiring.wired().policy, seconds(clock.now()))
    assert [len(place.parts) for place in whole.places] == [3]
    last = whole.places[0].parts[2].pieces[0].gpu
    Slot.objects.filter(gpu=last).update(layout_version=2)
    assert enact(whole, now=clock.now()).outdated == 1
    assert states(gang) == ["queued"]
    assert not Allocation.objects.exists()
    assert set(Gpu.objects.values_list("held_units", flat=True)) == {0}
    Slot.objects.filter(gpu=last).update(layout_version=1)
    node.start_everything()
    assert states(gang) == ["running"]
    assert len(node.desired()) == 3


@pytest.mark.parametrize(
    "decision",
    [
        {"suspends": (Suspend(1, 1, 2),)},
        {"recuts": (Recut(1, 1, (), (Instance("1g.10gb", 0),)),)},
        {"places": (Place(1, 1, (Part(1, (Piece(1, 21_000, thousandths=500),)),), "gpu"),)},
        {"stops": (Stop(1, 1, EndReason.PARKED_TOO_LONG),)},
        {"stops": (Stop(1, 1, EndReason.EVICT, 2),)},
        {"stops": (Stop(1, 1, EndReason.EVICT),)},
    ],
)
def test_a_decision_that_nobody_can_carry_out_is_an_error_and_nothing_is_written(people, node, decision):
    job = submit(people.alice, people.red)
    good = plan(load_cluster(clock.now()), wiring.wired().policy, seconds(clock.now()))
    with pytest.raises(CannotEnact):
        enact(
            replace(good, **{name: (*getattr(good, name), *rows) for name, rows in decision.items()}), now=clock.now()
        )
    assert states(job) == ["queued"]


def test_a_plan_without_reasons_evicts_nobody(people, node, lent):
    submit(people.alice, people.red, gpus=2)
    mute = plan(load_cluster(clock.now()), wiring.wired().policy, seconds(clock.now()), explain=False)
    assert mute.claims
    with pytest.raises(CannotEnact, match="without a hold"):
        enact(mute, now=clock.now())
    assert states(*lent) == ["running"] * 4


def test_the_live_policy_asks_for_nothing_that_the_drivers_cannot_do():
    policy = wiring.wired().policy
    assert (policy.suspend, policy.recut, policy.keeps_work) == (False, False, False)


# ------------------------------------------------------------------------------------------------------- kill -9
def in_a_process_that_dies(work):
    """Run `work` in a forked process that ends with SIGKILL, wherever it then is."""
    connections.close_all()

    def child():
        work()
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.fixture
def committed(transactional_db, manual_clock):
    """Everything is committed, so that another process sees it."""
    before = wiring.wired()
    people, node = make_people(), HandNode(FOUR)
    guarantee(people.red, 2)
    guarantee(people.blue, 2)
    jobs = [submit(people.charlie, people.blue) for _ in range(4)]
    node.start_everything()
    yield people, node, jobs
    wiring.use(before)


def test_killing_the_scheduler_between_the_first_and_the_last_release_changes_nothing(committed):
    people, node, _ = committed
    owner = submit(people.alice, people.red, gpus=2)

    def evict_and_see_the_first_one_go():
        node.tick()
        gone(node, stopping()[0])
        node.tick()

    in_a_process_that_dies(evict_and_see_the_first_one_go)
    (last,) = stopping()
    assert states(owner) == ["queued"]
    assert Claim.objects.get().job_id == owner.pk
    node.tick()
    assert stopping() == [last], "no second victim falls"
    gone(node, last)
    node.tick()
    assert states(owner) == ["placed"]
    assert sorted(Job.objects.values_list("state", flat=True)) == ["placed", "queued", "queued", "running", "running"]


def test_killing_the_scheduler_in_the_middle_of_an_eviction_leaves_nothing_of_it(committed, monkeypatch):
    people, node, jobs = committed
    owner = submit(people.alice, people.red, gpus=2)

    def die_before_the_commit():
        monkeypatch.setattr("scheduling.enact.store_holds", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        node.tick()

    in_a_process_that_dies(die_before_the_commit)
    assert states(owner, *jobs) == ["queued", *["running"] * 4]
    assert not Claim.objects.exists()
    assert not Slot.objects.filter(claimed_for__isnull=False).exists()
    outcome = tick().outcome
    assert (outcome.claimed, outcome.stopped) == (1, 2)


# ------------------------------------------------------------------------------------------------------- upgrade
def test_an_upgrade_tells_slots_who_holds_them_and_leads_what_they_cost(people, node, lent):
    Slot.objects.update(held_by=None)
    Allocation.objects.update(charge=0)
    migration = importlib.import_module("scheduling.migrations.0004_slots_know_their_holder")
    migration.note_holders(apps, None)
    assert set(Slot.objects.values_list("held_by", flat=True)) == {job.pk for job in lent}
    assert set(Allocation.objects.values_list("charge", flat=True)) == {42_000}


def test_guaranteed_work_that_falls_for_critical_work_is_credited_to_its_team(people, node, manual_clock):
    tiers = (Tier("urgent", critical=True), Tier("normal"))
    wiring.use(replace(wiring.wired(), policy=replace(wiring.wired().policy, tiers=tiers)))
    guarantee(people.red, 4)
    guarantee(people.blue, 4)  # more than there is: as when nodes are lost
    jobs = [submit(people.charlie, people.blue) for _ in range(4)]
    node.start_everything()
    node.advance(manual_clock, minutes=30)
    urgent = submit(people.alice, people.red, tier="urgent")
    (credit,) = plan(load_cluster(clock.now()), wiring.wired().policy, seconds(clock.now())).credits
    assert credit.job in {job.pk for job in jobs}
    node.tick()
    assert Job.objects.get(pk=urgent.pk).hold_code == "claimed"
    means = dict(PastUse.objects.filter(person=0, pool="gpu").values_list("team", "mean"))
    assert means[people.blue.pk] == -credit.mean < 0
    assert means[people.red.pk] == 0
    (past,) = [past for past in load_cluster(clock.now()).past if past.team == people.blue.pk and not past.user]
    assert past.mean == -credit.mean
    later = stopping()
    gone(node, *later)
    node.start_everything()
    assert states(urgent) == ["running"]


def test_suspended_work_leaves_a_node_that_is_drained(node):
    Node.objects.update(state=NodeState.DRAINING)
    (machine,) = load_cluster(clock.now()).nodes
    assert machine.draining
    assert not machine.accepts
