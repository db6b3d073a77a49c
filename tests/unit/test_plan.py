"""Who gets which place, and what the others are told."""

from dataclasses import replace

from scheduling.core.cluster import Part, Piece, Run
from scheduling.core.decisions import HoldCode
from scheduling.core.explain import sentence
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from scheduling.core.units import GPU_UNITS
from tests.pictures import ask, cluster

POLICY = Policy(place_timeout_s=600, start_timeout_s=120)
NOW = 100


def decide(world, policy=POLICY, now=NOW):
    return plan(world, policy, now)


def places(outcome):
    return {
        place.job: [(part.node, tuple(piece.gpu for piece in part.pieces)) for part in place.parts]
        for place in outcome.places
    }


def holds(outcome):
    return {hold.job: hold for hold in outcome.holds}


def test_the_queue_is_served_in_order():
    outcome = decide(cluster("n1 ..", ask(2, gpus=1), ask(1, gpus=1), ask(3, gpus=1)))
    assert list(places(outcome)) == [1, 2]
    assert holds(outcome)[3].code is HoldCode.GPUS_BUSY


def test_a_job_goes_where_it_fits_most_tightly_so_that_large_holes_survive():
    outcome = decide(cluster("n1 .... | n2 aaa.", ask(1, gpus=1)))
    assert places(outcome)[1] == [(2, (8,))]


def test_a_large_job_is_not_delayed_by_smaller_ones_that_came_later():
    outcome = decide(cluster("n1 ab", ask(1, gpus=2), ask(2, gpus=1), drawn={"b": ask(9, gpus=1, limit=9000, team=99)}))
    assert places(outcome) == {}
    freed = decide(cluster("n1 a.", ask(1, gpus=2), ask(2, gpus=1, limit=7200)))
    assert places(freed) == {}
    assert holds(freed)[2].code is HoldCode.RESERVED


def test_a_short_job_passes_a_blocked_one_that_it_does_not_delay():
    assert list(places(decide(cluster("n1 a.", ask(1, gpus=2), ask(2, gpus=1, limit=3500))))) == [2]


def two_kinds(blocked, *, by_pool=False):
    """The liked node is busy for days; the other has one card free and one that becomes free within the hour. Behind
    the blocked job waits one that would hold the free card for longer."""
    stays = {"gpus": 1, "team": 99, "preemptible": False}
    drawn = {"a": ask(9, limit=999_000, **stays), "b": ask(9, limit=1000, **stays)}
    world = cluster("n1 aa | n2 .b", blocked, ask(2, gpus=1, limit=7200), drawn=drawn)
    liked, other = (
        replace(node, pool=kind if by_pool else "gpu", gpus=tuple(replace(gpu, model=kind) for gpu in node.gpus))
        for node, kind in zip(world.nodes, ("A", "B"), strict=True)
    )
    return replace(world, nodes=(liked, other))


def test_a_blocked_job_is_promised_the_model_that_is_free_first():
    outcome = decide(two_kinds(ask(1, gpus=2, models=("A", "B"))))
    assert [(promise.job, promise.at, promise.parts[0].node) for promise in outcome.reserves][:1] == [(1, 1001, 2)]
    assert places(outcome) == {}


def test_a_blocked_job_is_promised_the_pool_that_is_free_first():
    outcome = decide(two_kinds(ask(1, gpus=2, pools=("A", "B")), by_pool=True))
    assert [(promise.job, promise.at, promise.pool) for promise in outcome.reserves][:1] == [(1, 1001, "B")]
    assert places(outcome) == {}


def of_models(world, *models):
    """The same world, each node with cards of its own model."""
    nodes = zip(world.nodes, models, strict=True)
    return replace(
        world, nodes=tuple(replace(n, gpus=tuple(replace(gpu, model=model) for gpu in n.gpus)) for n, model in nodes)
    )


def test_a_gang_takes_several_models_where_none_alone_has_enough():
    gang = ask(1, gpus=2, replicas=2, models=("A", "B"))
    assert [node for node, _ in places(decide(of_models(cluster("n1 .. | n2 ..", gang), "A", "B")))[1]] == [1, 2]
    alone = decide(of_models(cluster("n1 .. | n2 .. | n3 ..", gang), "A", "B", "B"))
    assert [node for node, _ in places(alone)[1]] == [2, 3]


def test_a_gang_over_several_models_is_promised_a_time():
    gang = ask(1, gpus=2, replicas=2, models=("A", "B"))
    stays = {"a": ask(9, gpus=2, limit=1000, team=99, preemptible=False)}
    blocked = decide(of_models(cluster("n1 .. | n2 aa", gang, drawn=stays), "A", "B"))
    assert [(promise.job, promise.at) for promise in blocked.reserves] == [(1, 1001)]


def test_a_job_of_several_cards_takes_several_models_of_one_node_where_none_alone_has_enough():
    world = cluster("n1 ..", ask(1, gpus=2, models=("A", "B")))
    first, second = world.nodes[0].gpus
    mixed = replace(world.nodes[0], gpus=(replace(first, model="A"), replace(second, model="B")))
    assert places(decide(replace(world, nodes=(mixed,)))) == {1: [(1, (1, 2))]}


def test_work_without_gpus_does_not_stand_in_the_line_for_gpus():
    assert places(decide(cluster("n1 aa", ask(1, gpus=1), ask(2)))) == {2: [(1, ())]}


def test_a_gang_is_placed_whole_or_not_at_all():
    gang = ask(1, gpus=2, replicas=2)
    assert places(decide(cluster("n1 .. | n2 .a", gang))) == {}
    assert len(places(decide(cluster("n1 .. | n2 ..", gang)))[1]) == 2


def test_what_a_failed_gang_tried_to_take_is_free_for_the_next():
    assert 2 in places(decide(cluster("n1 .. | n2 .a", ask(1, gpus=2, replicas=2), ask(2, gpus=2, limit=60))))


def test_a_node_that_does_not_accept_work_gets_none():
    assert holds(decide(cluster("n1! ....", ask(1, gpus=1))))[1].code is HoldCode.NO_NODES


def test_a_job_larger_than_every_node_does_not_bar_the_way():
    outcome = decide(cluster("n1 ..", ask(1, gpus=3), ask(2, gpus=1)))
    assert holds(outcome)[1].code is HoldCode.NEVER_FITS
    assert 2 in places(outcome)


def test_cpu_and_memory_bind_beside_gpus():
    no_cpu = decide(cluster("n1 ..", ask(1, gpus=1, cpu=2000), free_cpu=1000))
    assert holds(no_cpu)[1].code is HoldCode.CPU_BUSY
    no_memory = decide(cluster("n1 ..", ask(1, gpus=1, memory=2048), free_memory=1024))
    assert holds(no_memory)[1].code is HoldCode.MEMORY_BUSY


def test_holds_stand_in_the_order_of_the_queue():
    outcome = decide(cluster("n1 .", ask(3, gpus=1), ask(1, gpus=1), ask(2, gpus=1)))
    assert [hold.job for hold in outcome.holds] == [2, 3]


def test_a_job_that_asked_to_start_later_waits_and_says_so():
    assert holds(decide(cluster("n1 .", ask(1, gpus=1, not_before=500))))[1].code is HoldCode.NOT_BEFORE
    assert 1 in places(decide(cluster("n1 .", ask(1, gpus=1, not_before=500)), now=500))


RUN = Run(
    ask=ask(7, gpus=1, version=3),
    parts=(Part(1, (Piece(1, GPU_UNITS),)),),
    held_at=100,
    running_at=100,
    since=100,
    state=JobState.RUNNING,
)


def stops(run, now):
    return [(stop.job, stop.version, stop.reason) for stop in decide(cluster("n1 ..", runs=(run,)), now=now).stops]


def test_a_job_at_its_time_limit_is_stopped():
    assert stops(RUN, now=3699) == []
    assert stops(RUN, now=3700) == [(7, 3, EndReason.TIMED_OUT)]


def test_a_server_that_never_answers_is_given_up():
    assert stops(replace(RUN, state=JobState.STARTING, running_at=0), now=220) == [(7, 3, EndReason.START_TIMEOUT)]


def test_a_slow_pull_is_given_up_only_when_it_stalls():
    pulling = replace(RUN, state=JobState.PLACED, running_at=0)
    assert stops(replace(pulling, progress_at=4900), now=5100) == []
    assert stops(replace(pulling, progress_at=4500), now=5100) == [(7, 3, EndReason.PLACE_TIMEOUT)]


def test_every_hold_makes_a_sentence_with_its_numbers():
    outcome = decide(cluster("n1 a.", ask(1, gpus=2, cpu=4000), ask(2, gpus=1, limit=9000), ask(3, gpus=9)))
    said = {job: sentence(hold.code, dict(hold.numbers)) for job, hold in holds(outcome).items()}
    assert said[1] == "It needs 2 GPUs on one node; the most that is free for it on one is 1."
    assert said[2].startswith("There is room for it on node 1 now, but from 1970-01-01 01:00 UTC on that is kept for")
    assert "9 GPUs" in said[3]


def test_times_are_said_as_dates():
    hold = holds(decide(cluster("n1 .", ask(1, gpus=1, not_before=1_800_000_000))))[1]
    assert sentence(hold.code, dict(hold.numbers)) == "It asked to start not before 2027-01-15 08:00 UTC."
    assert (
        sentence("team_window", {"opens": 1_800_000_000})
        == "Its team may start work again from 2027-01-15 08:00 UTC on."
    )


def test_a_code_of_a_later_version_is_no_error():
    alone = {"cpu_millis": 1000, "free_cpu_millis": 0}
    assert sentence("cpu_busy", alone).startswith("It needs 1 of one node's CPU cores; ")  # not "1 CPU cores"
    assert sentence("from_the_future", {}) == ""
    assert sentence("gpus_busy", {"of_another_version": 1}) == ""


def test_a_plan_without_reasons_places_the_same_jobs():
    """What the second job lacks is CPU: the third, which asks for less of it, is tried all the same."""
    world = cluster("n1 ....", ask(1, gpus=1, cpu=15_000), ask(2, gpus=1, cpu=4000), ask(3, gpus=1, cpu=1000))
    for depth in (0, 1, 8):
        policy = Policy(reserve_depth=depth)
        told, silent = plan(world, policy, 10), plan(world, policy, 10, explain=False)
        assert [place.job for place in silent.places] == [1, 3]
        assert silent.places == told.places
