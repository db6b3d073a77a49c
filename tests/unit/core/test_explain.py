"""What a waiting job is told is true: each case is one in which a plausible sentence would not be."""

from dataclasses import replace

import pytest

from scheduling.core.cluster import Booking, Cluster, Gpu, Need, Node, Part, Piece, Quota, Run, Team
from scheduling.core.explain import Names, sentence
from scheduling.core.mig import PROFILES
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from scheduling.core.units import GPU_UNITS
from tests.pictures import ask, cluster

H100 = "NVIDIA H100 80GB HBM3"
POLICY = Policy()


def node(number=1, gpus=2, *, pool="gpu", **more):
    cards = tuple(Gpu(10 * number + n, H100, 81_920, mig=True) for n in range(gpus))
    return Node(number, f"n{number}", pool, 8000, 65_536, cards, **more)


def told(world, policy=POLICY, now=100):
    """job -> (code, sentence)"""
    return {h.job: (h.code, sentence(h.code, dict(h.numbers))) for h in plan(world, policy, now).holds}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"gpus": 1, "pools": ("cellar",)}, "None of the pools that it accepts has a node."),
        ({"gpus": 1, "needs": (Need("disk", ("nvme",)),)}, "has the labels that it asks for."),
        ({"gpus": 1, "pools": ("cpu",)}, "and no node with the pool and labels that it asks for has any."),
        ({"gpus": 1, "models": ("NVIDIA A100",)}, "has a GPU of a model that it accepts."),
        ({"mig": "9g.80gb"}, "can be cut into the MIG instance that it asks for."),
        ({"gpus": 1, "gpu_memory_mib": 102_400}, "It asks for 100 GiB of memory on each GPU, and no GPU"),
        ({"gpus": 3}, "It asks for 3 GPUs on one node, and no node has so many"),
        ({"gpus": 1, "cpu": 9000}, "It asks for 9 of one node's CPU cores and 1 GiB of its memory, and no node"),
        ({"thousandths": 500, "memory": 131_072}, "1 of one node's CPU cores and 128 GiB of its memory, and no node"),
    ],
)
def test_what_can_never_fit_names_what_no_node_has(asked, words):
    world = Cluster(nodes=(node(1), node(2, 0, pool="cpu")), asks=(ask(1, **asked),))
    code, said = told(world)[1]
    assert code == "never_fits"
    assert words in said


@pytest.mark.parametrize(
    ("quota", "firm", "code", "words"),
    [
        ({"guaranteed": 2000, "borrow_limit": 2000, "lend_limit": 0}, False, "team_limit",
         "It needs 8 CPU cores, and the limits of its team leave 4."),
        ({"user_limit": 4000}, False, "user_limit", "one member of the team may use 4, and 0 are used."),
        ({"guaranteed": 4000}, True, "guarantee_used", "0 of 4 CPU cores are used so by others, and it needs 8."),
    ],
)  # fmt: skip
def test_rights_in_a_pool_without_gpus_are_told_in_cores(quota, firm, code, words):
    nodes = tuple(node(n, 0, pool="cpu") for n in (1, 2))
    teams = (Team(1, "red", 0, (Quota("cpu", **quota),)),)
    world = Cluster(nodes=nodes, asks=(ask(1, cpu=8000, preemptible=not firm),), teams=teams)
    assert told(world)[1][0] == code
    assert words in told(world)[1][1]


def test_a_full_pool_without_gpus_is_told_in_cores():
    said = sentence("pool_full", {"asked_cpu_millis": 8000, "left_cpu_millis": 500})
    assert said == "It needs 8 CPU cores; the pool has 0.5 left that may be lent to its team."


def test_the_reservation_of_a_job_is_not_what_it_waits_for():
    gang = ask(1, gpus=4, replicas=2, required="node")
    code, said = told(cluster("n1 ....aaaa | n2 ....bbbb", gang))[1]
    assert code == "topology"
    assert said == "There is room for 2 replicas now, but not as close together as it asks: at most for 1."


def test_where_only_the_node_that_could_hold_it_is_away_the_others_are_not_said_to_be():
    code, said = told(cluster("n1! .... | n2 ..", ask(1, gpus=4)))[1]
    assert (code, said) == ("no_nodes", "The only node that could hold it takes no work now.")


def test_a_card_that_serves_another_team_is_not_free_for_a_share():
    world = Cluster(nodes=(node(gpus=1),), asks=(ask(1, thousandths=500),), runs=(share(9, 10, 250, team=2),))
    assert told(world)[1] == (
        "slices_busy", "It needs 50 % of a GPU; the most that is free for its team on one is 0 %.",
    )  # fmt: skip
    ours = Cluster(nodes=(node(gpus=1),), asks=(ask(1, thousandths=500),), runs=(share(9, 10, 750),))
    assert told(ours)[1][1].endswith("the most that is free for its team on one is 25 %.")


def test_a_share_that_lacks_memory_of_the_card_says_so():
    greedy = share(9, 10, 250, memory_mib=70_000)
    world = Cluster(nodes=(node(gpus=1),), asks=(ask(1, thousandths=500, gpu_memory_mib=20_480),), runs=(greedy,))
    assert told(world)[1][1].startswith(
        "It needs 20 GiB of a GPU's memory with its share; the most that is free for its"
    )
    assert told(world)[1][1].endswith("is 11.64 GiB.")


def test_a_mig_instance_that_cannot_be_had_names_the_largest_that_can():
    runs = (instance(9, 10, "4g.40gb", 0),)
    world = Cluster(nodes=(node(gpus=1),), asks=(ask(1, mig="4g.40gb"),), runs=runs)
    assert told(world)[1] == (
        "slices_busy", "It needs a MIG instance of 4 compute slices, and none can be had of 1 GPU of the kind that it "
        "accepts; the largest that can has 3 compute slices.",
    )  # fmt: skip


def test_a_part_of_a_card_that_lacks_cpu_is_not_said_to_lack_the_card():
    busy = Run(ask(9, team=2), (Part(1, (), 7500, 0),), 1, running_at=1)
    world = Cluster(nodes=(node(gpus=1),), asks=(ask(1, mig="2g.20gb"),), runs=(busy,))
    assert told(world)[1] == (
        "cpu_busy", "It needs 1 of one node's CPU cores; the most that is free beside its GPUs is 0.5.",
    )  # fmt: skip


def test_a_gang_of_slices_counts_the_replicas_that_fit():
    world = Cluster(nodes=(node(gpus=1),), asks=(ask(1, mig="3g.40gb", replicas=3, cpu=500),))
    assert told(world)[1] == ("gang_busy", "All 3 replicas start together; 2 of them would fit now.")


def test_what_is_free_is_told_as_it_is_when_the_plan_is_done():
    """At the turn of the large job one card was free; the small one behind it takes it."""
    drawn = {"a": ask(9, gpus=1, limit=9000, team=9)}
    said = told(cluster("n1 a.", ask(1, gpus=2), ask(2, gpus=1, limit=60), drawn=drawn))
    assert said[1][1] == "It needs 2 GPUs on one node; the most that is free for it on one is 0."


def test_a_place_that_is_kept_names_the_node_and_the_time():
    drawn = {"a": ask(9, gpus=1, limit=500, team=9)}
    world = cluster("n1 a.", ask(1, gpus=2), ask(2, gpus=1, limit=9000), drawn=drawn)
    hold = next(hold for hold in plan(world, POLICY, 100).holds if hold.job == 2)
    assert (hold.code, dict(hold.numbers)) == ("reserved", {"node": 1, "until": 501})
    assert sentence(hold.code, dict(hold.numbers), Names({1: "n1"})) == (
        "There is room for it on n1 now, but from 1970-01-01 00:08 UTC on that is kept for another job, and its time "
        "limit reaches beyond."
    )


def test_whose_a_booking_is_only_those_read_who_may():
    numbers = {"booking": 1, "team": 2, "node": 1, "starts": 1000, "ends": 2000}
    assert "is booked for another team from" in sentence("booked", numbers)
    assert "on n1 now, but that is booked for blue from" in sentence("booked", numbers, Names({1: "n1"}, {2: "blue"}))


def test_where_others_are_free_a_booking_is_not_what_a_job_waits_for():
    teams = (Team(1, "a"), Team(2, "b"))
    world = replace(
        cluster("n1 .. | n2 a.", ask(1, gpus=2, limit=600), teams=teams), bookings=(Booking(1, 2, (1,), 0, 2000),)
    )
    assert told(world)[1][0] == "booked"  # it needs that very node
    assert told(replace(world, asks=(ask(1, gpus=3, limit=600),)))[1][0] == "never_fits"
    assert plan(replace(world, asks=(ask(1, gpus=1, limit=600),)), POLICY, 100).places


def test_a_suspended_job_is_told_which_of_its_gpus_are_in_use_and_until_when():
    pinned = (Part(1, (Piece(1, GPU_UNITS), Piece(2, GPU_UNITS))),)
    waits = replace(ask(5, gpus=2), pinned=pinned, suspended_at=50)
    drawn = {"a": ask(9, gpus=1, limit=500, team=9, preemptible=False)}
    assert told(cluster("n1 a.", waits, drawn=drawn))[5] == (
        "pinned", "It is suspended on node 1 and returns to its own GPUs: 1 of 2 GPUs there are in use until 1970-01-01 "
        "00:08 UTC at the latest.",
    )  # fmt: skip
    assert told(cluster("n1! ..", waits))[5][1] == "It is suspended on node 1, which takes no work now."


def test_cpu_that_came_free_after_its_turn_is_told_as_a_matter_of_the_next_cycle():
    """Free GPUs keep their part of CPU: once another job has taken the GPU, work without GPUs finds room."""
    first = ask(1, cpu=12_000, memory=1, priority=5)
    assert told(cluster("n1 .", first, ask(2, gpus=1)))[1] == (
        "next", "What stood in its way went away a moment ago; it is looked at again in the next cycle.",
    )  # fmt: skip


def share(job, gpu, thousandths, *, team=1, memory_mib=8192):
    piece = Piece(gpu, 42 * thousandths, thousandths=thousandths, memory_mib=memory_mib)
    return Run(ask(job, thousandths=thousandths, team=team), (Part(1, (piece,)),), 1, running_at=1)


def instance(job, gpu, profile, start):
    piece = Piece(gpu, PROFILES[H100][profile].units, profile, start)
    return Run(ask(job, mig=profile), (Part(1, (piece,)),), 1, running_at=1)
