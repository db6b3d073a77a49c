"""What a waiting job is told is true: each case is one in which a plausible sentence would not be."""

import pytest

from scheduling.core.cluster import Cluster, Gpu, Need, Node, Quota, Team
from scheduling.core.explain import sentence
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
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
    assert (code, said) == ("topology", "2 replicas would fit now, but not the 2 that it needs close together.")


def test_where_only_the_node_that_could_hold_it_is_away_the_others_are_not_said_to_be():
    code, said = told(cluster("n1! .... | n2 ..", ask(1, gpus=4)))[1]
    assert (code, said) == ("no_nodes", "No node that could hold it accepts work now.")
