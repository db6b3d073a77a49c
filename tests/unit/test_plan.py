"""Who gets which slots, and what the others are told."""

from dataclasses import replace

from scheduling.core.cluster import Run
from scheduling.core.decisions import HoldCode
from scheduling.core.explain import sentence
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from tests.pictures import ask, cluster

POLICY = Policy(place_timeout_s=600, start_timeout_s=120)


def places(outcome):
    return {place.job: [(part.node, part.slots) for part in place.parts] for place in outcome.places}


def holds(outcome):
    return {hold.job: hold for hold in outcome.holds}


def test_the_queue_is_served_in_order():
    outcome = plan(cluster("n1 ..", ask(2, gpus=1), ask(1, gpus=1), ask(3, gpus=1)), POLICY)
    assert list(places(outcome)) == [1, 2]
    assert holds(outcome)[3].code is HoldCode.GPUS_BUSY


def test_a_job_goes_where_it_fits_most_tightly_so_that_large_holes_survive():
    outcome = plan(cluster("n1 .... | n2 aaa.", ask(1, gpus=1)), POLICY)
    assert places(outcome)[1] == [(2, (8,))]


def test_a_large_job_is_not_overtaken_by_smaller_ones_that_came_later():
    outcome = plan(cluster("n1 a.", ask(1, gpus=2), ask(2, gpus=1)), POLICY)
    assert places(outcome) == {}
    assert holds(outcome)[2].code is HoldCode.BEHIND
    assert dict(holds(outcome)[2].numbers) == {"ahead": 1}


def test_work_without_gpus_does_not_stand_in_the_line_for_gpus():
    outcome = plan(cluster("n1 aa", ask(1, gpus=1), ask(2)), POLICY)
    assert places(outcome) == {2: [(1, ())]}


def test_a_gang_is_placed_whole_or_not_at_all():
    gang = ask(1, gpus=2, replicas=2)
    assert places(plan(cluster("n1 .. | n2 .a", gang), POLICY)) == {}
    assert len(places(plan(cluster("n1 .. | n2 ..", gang), POLICY))[1]) == 2


def test_what_a_failed_gang_tried_to_take_is_free_for_the_next():
    outcome = plan(cluster("n1 .. | n2 .a", ask(1, gpus=2, replicas=2), ask(2)), POLICY)
    assert 2 in places(outcome)


def test_a_node_that_does_not_accept_work_gets_none():
    outcome = plan(cluster("n1! ....", ask(1, gpus=1)), POLICY)
    assert holds(outcome)[1].code is HoldCode.NO_NODES


def test_a_job_larger_than_every_node_does_not_bar_the_way():
    outcome = plan(cluster("n1 ..", ask(1, gpus=3), ask(2, gpus=1)), POLICY)
    assert holds(outcome)[1].code is HoldCode.NEVER_FITS
    assert 2 in places(outcome)


def test_cpu_and_memory_bind_beside_gpus():
    no_cpu = plan(cluster("n1 ..", ask(1, gpus=1, cpu=2000), free_cpu=1000), POLICY)
    assert holds(no_cpu)[1].code is HoldCode.CPU_BUSY
    no_memory = plan(cluster("n1 ..", ask(1, gpus=1, memory=2048), free_memory=1024), POLICY)
    assert holds(no_memory)[1].code is HoldCode.MEMORY_BUSY


def test_positions_count_the_jobs_that_wait():
    outcome = plan(cluster("n1 .", ask(1, gpus=1), ask(2, gpus=1), ask(3, gpus=1)), POLICY)
    assert [hold.position for hold in outcome.holds] == [1, 2]


RUN = Run(job=7, version=3, state=JobState.RUNNING, in_state_s=0, ran_s=0, limit_s=3600)


def stops(run):
    return [(stop.job, stop.reason) for stop in plan(cluster("n1 ..", runs=(run,)), POLICY).stops]


def test_a_job_at_its_time_limit_is_stopped():
    assert stops(replace(RUN, ran_s=3599)) == []
    assert stops(replace(RUN, ran_s=3600)) == [(7, EndReason.TIMED_OUT)]


def test_a_server_that_never_answers_is_given_up():
    assert stops(replace(RUN, state=JobState.STARTING, in_state_s=120)) == [(7, EndReason.START_TIMEOUT)]


def test_a_slow_pull_is_given_up_only_when_it_stalls():
    pulling = replace(RUN, state=JobState.PLACED, in_state_s=5000)
    assert stops(replace(pulling, stalled_s=10)) == []
    assert stops(replace(pulling, stalled_s=600)) == [(7, EndReason.PLACE_TIMEOUT)]


def test_every_hold_makes_a_sentence_with_its_numbers():
    outcome = plan(cluster("n1 a.", ask(1, gpus=2, cpu=4000), ask(2, gpus=1), ask(3, gpus=9)), POLICY)
    said = {job: sentence(hold.code, dict(hold.numbers)) for job, hold in holds(outcome).items()}
    assert said[1] == "It needs 2 GPUs on one node; the most that is free on one is 1."
    assert said[2] == "1 job is ahead of it in the queue."
    assert "9 GPUs" in said[3]


def test_a_code_of_a_later_version_is_no_error():
    assert sentence("from_the_future", {}) == ""
