"""What may be submitted, what is refused with which sentence, which deadlines are accepted, and what is estimated."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from portal.kernel import clock
from portal.kernel.errors import Rejected
from scheduling import services, wiring
from scheduling.core.cluster import Need
from scheduling.core.policy import Policy, Tier
from scheduling.models import Booking, Job, Node, Pool
from scheduling.selectors import estimate, job_details
from scheduling.services import JobSpec
from scheduling.snapshot import load_cluster
from tenants.models import TeamWindow
from tests.hand_node import MACHINE, HandNode, node
from tests.integration.test_evictions import FOUR
from tests.quotas import guarantee

__all__ = ["node"]

HOUR = timedelta(hours=1)


def submit(people, *, by=None, limit=HOUR, **spec):
    asked = JobSpec(name="work", image="x", limit=limit, kind="batch", **spec)
    return services.submit_job(by=by or people.alice, team=people.red, spec=asked, now=clock.now())


def refusal(people, **spec):
    with pytest.raises(Rejected) as refused:
        submit(people, **spec)
    assert not Job.objects.exists()
    return refused.value.sentence


def test_everything_that_is_asked_reaches_the_plan(people, node):
    at = clock.now()
    Node.objects.update(labels={"zone": "a"}, path=["block-1", "rack-1"])
    job = submit(
        people, gpus=1, cpu_millis=500, memory_mib=256, replicas=2, gpu_memory_mib=40_000, preemptible=True,
        gpu_models=("Simulated GPU",), pools=("gpu",), required="node", needs=(Need("zone", ("a", "b")),),
        tier="batch", priority=7, min_runtime=timedelta(minutes=5), not_before=at + HOUR, deadline=at + 3 * HOUR,
    )  # fmt: skip
    (ask,) = load_cluster(at).asks
    assert (ask.tier, ask.priority, ask.preemptible, ask.min_runtime_s) == ("batch", 7, True, 300)
    assert (ask.not_before, ask.deadline) == (int((at + HOUR).timestamp()), int((at + 3 * HOUR).timestamp()))
    shape = ask.shape
    assert (shape.gpus, shape.replicas, shape.gpu_memory_mib, shape.required) == (1, 2, 40_000, "node")
    assert (shape.models, shape.pools, shape.needs) == (("Simulated GPU",), ("gpu",), (Need("zone", ("a", "b")),))
    assert ask.job == job.pk


NEVER = "Even with every machine free it could not start."


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"tier": "urgent"}, "There is no tier 'urgent'; choose one of: production, normal, batch."),
        ({"pools": ("tpu",)}, "There is no pool 'tpu'; choose among: gpu."),
        ({"required": "row"}, "There is no topology level 'row'; choose one of: island, node, block, rack."),
        ({"replicas": 0}, "A job has one replica or more; you asked for 0."),
        ({"limit": timedelta()}, "A time limit is one second or more."),
        ({"gpus": 3}, "You asked for 3 GPUs on one machine; the largest has 2. Ask for 2 or fewer."),
        (
            {"gpus": 2, "replicas": 2},
            "Even with every machine free it could not start. All 2 replicas start together; 1 of them would fit now.",
        ),
        (
            {"gpus": 1, "gpu_models": ("H100",)},
            f"{NEVER} No node with the pool and labels that it asks for has a GPU of a model",
        ),
        ({"gpus": 1, "gpu_memory_mib": 200_000}, f"{NEVER} It asks for 195.31 GiB of memory on each GPU, and no GPU"),
        ({"gpus": 1, "needs": (Need("zone", ("b",)),)}, f"{NEVER} No node in a pool that it accepts has the labels"),
    ],
)
def test_what_can_never_be_is_refused_with_the_reason(people, node, spec, sentence):
    assert refusal(people, **spec).startswith(sentence)


def test_what_the_limits_of_the_team_never_allow_is_refused(people, node):
    guarantee(people.red, 1, borrow_limit=0)
    assert refusal(people, gpus=2, preemptible=True) == (
        "Even with every machine free it could not start. It needs 2 GPUs, and the limits of its team leave 1."
    )
    assert "may not be evicted" in refusal(people, gpus=2)
    submit(people, gpus=1)


def test_a_team_that_may_start_work_at_night_only_may_submit_by_day(people, node):
    TeamWindow.objects.create(team=people.red, starts=22 * 3600, ends=6 * 3600)
    job = submit(people)
    node.tick()
    job.refresh_from_db()
    assert (job.state, job.hold_code) == ("queued", "team_window")


def test_critical_work_is_for_those_who_run_the_team(people, node):
    policy = Policy(tiers=(Tier("critical", critical=True), Tier("normal")), suspend=False, recut=False)
    wiring.use(replace(wiring.wired(), policy=policy))
    assert "only admins and owners" in refusal(people, tier="critical", by=people.bob, gpus=1)
    submit(people, tier="critical", by=people.alice, gpus=1)


def test_a_job_starts_no_earlier_than_it_asked(people, node, manual_clock):
    job = submit(people, not_before=clock.now() + HOUR, gpus=1)
    node.tick()
    assert Job.objects.get(pk=job.pk).hold_code == "not_before"
    node.advance(manual_clock, hours=1)
    node.tick()
    assert Job.objects.get(pk=job.pk).state == "placed"


def test_a_booked_node_is_for_its_team_only(people, node, manual_clock):
    booking = Booking.objects.create(team=people.blue, starts_at=clock.now(), ends_at=clock.now() + 2 * HOUR)
    booking.nodes.set(Node.objects.all())
    job = submit(people, gpus=1)
    node.tick()
    assert Job.objects.get(pk=job.pk).state == "queued"
    node.advance(manual_clock, hours=2)
    node.tick()
    assert Job.objects.get(pk=job.pk).state == "placed"


# ------------------------------------------------------------------------------------------------------- deadlines
def test_a_deadline_that_is_met_is_accepted_and_says_when_the_job_starts(people, node):
    at = clock.now()
    submit(people, gpus=2)
    node.start_everything()
    second = submit(people, gpus=2, deadline=at + 2 * HOUR)
    assert second.deadline_accepted
    assert second.promised_at == at + HOUR


def test_a_deadline_that_cannot_be_met_is_not_accepted_and_orders_nothing(people, node):
    at = clock.now()
    submit(people, gpus=2)
    node.start_everything()
    second = submit(people, gpus=2, deadline=at + timedelta(minutes=90))
    assert not second.deadline_accepted
    assert second.promised_at == at + HOUR
    assert load_cluster(at).asks[0].deadline == 0


def test_a_deadline_before_the_time_limit_is_refused(people, node):
    assert "the earliest deadline is 2026-11-23 10:00 UTC" in refusal(people, deadline=clock.now() + HOUR / 2)


# ------------------------------------------------------------------------------------------------------- estimates
def test_a_waiting_job_is_told_when_it_will_start(people, node):
    at = clock.now()
    running = submit(people, gpus=2)
    node.start_everything()
    waiting = submit(people, gpus=2)
    told = estimate(waiting, now=at)
    assert (told.likely_at, told.late_at, told.learned) == (at + HOUR, at + HOUR, False)
    assert estimate(Job.objects.get(pk=running.pk), now=at) is None
    assert not Job.objects.filter(state="queued").exclude(pk=waiting.pk).exists()


def test_estimates_learn_from_how_long_such_jobs_ran(people, node):
    at = clock.now()
    for minutes in range(1, 41):
        Job.objects.create(
            team=people.red, owner=people.alice, name="old", image="x", limit=HOUR, state="succeeded",
            submitted_at=at - 2 * HOUR, since_at=at, running_at=at - HOUR,
            ended_at=at - HOUR + timedelta(minutes=minutes), end_reason="succeeded",
        )  # fmt: skip
    submit(people, gpus=2)
    node.start_everything()
    told = estimate(submit(people, gpus=2), now=at)
    assert told.learned
    rounded_up = timedelta(seconds=1)
    assert timedelta() <= told.likely_at - at - timedelta(minutes=21) <= rounded_up
    assert timedelta() <= told.late_at - at - timedelta(minutes=37) <= rounded_up


# ------------------------------------------------------------------------------------------------------- shown
def test_a_waiting_job_has_its_terms_and_its_reservation(people, node):
    at = clock.now()
    first, second = submit(people, gpus=2), submit(people, gpus=2, priority=3, tier="production")
    node.start_everything()
    waiting = Job.objects.get(state="queued")
    assert waiting.pk == first.pk
    assert waiting.terms["tier"] == 1
    assert waiting.terms["priority"] == 0
    assert waiting.terms["levels"][0][0] == 1, "beyond a guarantee that red does not have"
    assert job_details([waiting])[first.pk].reserved_at == at + HOUR
    assert Job.objects.get(pk=second.pk).terms == {}


def test_the_snapshot_takes_as_many_queries_for_many_rows_as_for_few(people, node):
    def count():
        with CaptureQueriesContext(connection) as queries:
            load_cluster(clock.now())
        return len(queries)

    guarantee(people.red, 1)
    booking = Booking.objects.create(
        team=people.blue, starts_at=clock.now() + 90 * HOUR, ends_at=clock.now() + 99 * HOUR
    )
    booking.nodes.set(Node.objects.all())
    submit(people, gpus=1)
    node.start_everything()
    submit(people, gpus=2, preemptible=True)
    few = count()
    for number in range(5):
        HandNode(replace(FOUR, gpus=tuple(replace(g, uuid=f"{number}-{g.index}") for g in FOUR.gpus)), f"n{number}")
        for _ in range(3):
            submit(people, gpus=2, preemptible=True)
        again = Booking.objects.create(team=people.blue, starts_at=booking.starts_at, ends_at=booking.ends_at)
        again.nodes.set(Node.objects.all())
        guarantee(people.blue, number, pool=f"p{number}")
        Pool.objects.create(name=f"p{number}")
        node.start_everything()
    assert count() == few


def test_on_machines_without_a_gpu_any_gpu_is_one_too_many(people):
    HandNode(replace(MACHINE, gpus=()))
    assert refusal(people, gpus=1) == "No machine here has a GPU; ask for 0 GPUs."
