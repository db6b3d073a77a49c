"""What a waiting job is told is true: each case is one in which a plausible sentence would not be."""

import pytest

from scheduling.core.cluster import Cluster, Gpu, Need, Node
from scheduling.core.explain import sentence
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from tests.pictures import ask

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
