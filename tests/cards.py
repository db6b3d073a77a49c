"""Cards and nodes for a small world, and what a plan puts on them."""

from scheduling.core.cluster import Cluster, Gpu, Instance, Node, Part, Run
from scheduling.core.decisions import Plan
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from tests.pictures import ask

H100 = "NVIDIA H100 80GB HBM3"
H200 = "NVIDIA H200"


def node(*gpus, number=1, **more):
    return Node(number, f"n{number}", "gpu", 64_000, 256_000, gpus, **more)


def card(number, *layout, model=H100, memory=81_920, mig=True, **more):
    return Gpu(number, model, memory, mig=mig, layout=tuple(Instance(*i) for i in layout), **more)


def run(job, *held, team=1, on=1, **more):
    """It holds these pieces of the node `on`, since long ago."""
    return Run(ask(job, team=team), (Part(on, held),), 1, running_at=1, **more)


def decide(nodes, *asks, runs=(), policy=Policy(), **more) -> Plan:  # noqa: B008
    return plan(Cluster(nodes=tuple(nodes), asks=asks, runs=runs, **more), policy, 1000)


def pieces(outcome):
    """(card, profile, start) of each job's pieces."""
    return {p.job: [(x.gpu, x.profile, x.start) for part in p.parts for x in part.pieces] for p in outcome.places}


def shares(outcome):
    """(card, thousandths) of all pieces."""
    return sorted((x.gpu, x.thousandths) for p in outcome.places for part in p.parts for x in part.pieces)
