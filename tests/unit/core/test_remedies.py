"""What would start a job now: of each number the most that would, found in the cluster and not in a list."""

from dataclasses import replace

from scheduling.core.cluster import Cluster, Gpu, Node, Part, Piece, Quota, Run, Team
from scheduling.core.dials import smaller_profiles
from scheduling.core.mig import PROFILES
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from scheduling.core.remedies import Prover, changes_that_would_start
from tests.pictures import ask, cluster

H100 = "NVIDIA H100 80GB HBM3"
POLICY = Policy()


def changes(world, job=1, **more):
    """Field -> value of every change that is suggested; each is planned here once more."""
    found = changes_that_would_start(world, POLICY, 100, job, **more)
    for change in found:
        others = tuple(other for other in world.asks if other.job != job)
        outcome = plan(replace(world, asks=(*others, change.ask)), POLICY, 100)
        assert job in {place.job for place in outcome.places}
    return {change.what: change.value for change in found}


def one_card(*pieces, wish):
    """An H100 that may be cut, with these pieces held by team 1."""
    node = Node(1, "n1", "gpu", 64_000, 262_144, (Gpu(1, H100, 81_920, mig=True),))
    runs = tuple(
        Run(ask(90 + n, limit=9000, preemptible=False), (Part(1, (piece,)),), 1, running_at=1)
        for n, piece in enumerate(pieces)
    )
    return Cluster(nodes=(node,), asks=(wish,), runs=runs)


def instance(profile, start):
    return Piece(1, PROFILES[H100][profile].units, profile, start)


def test_the_largest_share_that_is_left_is_suggested():
    held = Piece(1, 42 * 637, thousandths=637, memory_mib=40_000)
    assert changes(one_card(held, wish=ask(1, thousandths=500)))["thousandths"] == "363"


def test_a_smaller_mig_instance_is_suggested_named_as_the_one_that_was_asked_for():
    assert changes(one_card(instance("4g.40gb", 0), wish=ask(1, mig="4g.40gb")))["mig"] == "3g.40gb"
    assert changes(one_card(instance("4g.40gb", 0), wish=ask(1, mig="4g")))["mig"] == "3g"
    assert changes(one_card(instance("3g.40gb", 0), instance("2g.20gb", 4), wish=ask(1, mig="3g")))["mig"] == "1g"


def test_smaller_instances_come_from_the_models_that_are_there():
    assert smaller_profiles("3g", [H100]) == ["1g", "2g"]
    assert smaller_profiles("2g.20gb", [H100]) == ["1g.10gb", "1g.20gb"]
    assert smaller_profiles("2g", ["NVIDIA L40S"]) == []


def test_as_much_cpu_and_memory_as_the_node_has_left_is_suggested():
    assert changes(cluster("n1 .", ask(1, gpus=1, cpu=8000), free_cpu=3250)) == {"cpu_millis": "3200"}
    assert changes(cluster("n1 .", ask(1, gpus=1, memory=8192), free_memory=5000)) == {"memory_mib": "4864"}


def test_a_limit_may_reach_to_the_minute_before_the_next_reservation():
    drawn = {"a": ask(9, gpus=1, limit=5000, team=9)}
    world = cluster("n1 a.", ask(1, gpus=2), ask(2, gpus=1, limit=9000), drawn=drawn)
    assert changes(world, job=2) == {"limit_s": "4860"}  # the card is needed at 5001, and it is 100 now


def test_as_many_replicas_and_gpus_as_fit_are_suggested():
    found = changes(cluster("n1 ...a | n2 ...b | n3 ...c", ask(1, gpus=3, replicas=5)))
    assert found == {"replicas": "3", "gpus": "1"}


def test_less_that_brings_a_job_within_its_guarantee_goes_ahead_of_others_who_borrow():
    """With three GPUs the team would borrow, and another's job is before it; with two it comes first."""
    teams = (
        Team(1, "red", 0, (Quota("gpu", guaranteed=2 * 42_000),)), Team(2, "blue", 0, (Quota("gpu", weight=4),))
    )  # fmt: skip
    world = cluster("n1 ...", ask(2, gpus=3), ask(1, gpus=2, team=2), teams=teams)
    assert [place.job for place in plan(world, POLICY, 100).places] == [1]
    assert changes(world, job=2)["gpus"] == "2"


def test_a_job_that_may_not_start_yet_is_told_nothing():
    assert changes(cluster("n1 .", ask(1, gpus=1, not_before=500))) == {}


def test_the_prover_leaves_the_queue_as_it_was():
    world = cluster("n1 a.", ask(1, gpus=2), ask(2, gpus=1, limit=9000))
    prover = Prover(world, POLICY, 100)
    before = prover.planner.snapshot()
    assert prover.changes(1) == prover.changes(1)
    assert prover.planner.snapshot() == before
