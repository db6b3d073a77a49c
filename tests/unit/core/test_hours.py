"""Every unit of every card is in exactly one part of its hour."""

from dataclasses import replace

from scheduling.core.cluster import Booking, Claim, Gpu, Instance, Node, Part, Piece, Quota, Run, Team
from scheduling.core.hours import Split, split
from scheduling.core.policy import Policy
from scheduling.core.state import State
from scheduling.core.units import GPU_UNITS
from tests.pictures import ask, cluster, letter

H100 = "NVIDIA H100 80GB HBM3"


def test_held_cards_are_used_or_idle_and_the_others_free():
    assert split(cluster("n1 ab.."), 0, idle=[letter("b")]) == {
        "gpu": Split(used=GPU_UNITS, idle=GPU_UNITS, free=2 * GPU_UNITS)
    }


def test_what_nobody_holds_on_a_node_that_takes_no_work_is_draining_or_broken():
    world = cluster("n1! a. | n2! .")
    nodes = (replace(world.nodes[0], draining=True), world.nodes[1])
    found = split(replace(world, nodes=nodes), 0)
    assert found == {"gpu": Split(used=GPU_UNITS, draining=GPU_UNITS, broken=GPU_UNITS)}


def test_a_claimed_card_is_reserved_from_the_moment_its_victim_has_gone():
    claim = Claim(1, (Part(1, (Piece(1, GPU_UNITS),)),), "gpu", 0, 100, (letter("a"),))
    occupied = replace(cluster("n1 a."), claims=(claim,))
    assert split(occupied, 0) == {"gpu": Split(used=GPU_UNITS, free=GPU_UNITS)}
    assert split(replace(occupied, runs=()), 0) == {"gpu": Split(reserved=GPU_UNITS, free=GPU_UNITS)}


def test_a_booked_node_is_reserved_while_the_booking_lasts():
    world = replace(cluster("n1 a. | n2 ."), bookings=(Booking(1, 1, (1,), 100, 200),))
    assert split(world, 99)["gpu"] == Split(used=GPU_UNITS, free=2 * GPU_UNITS)
    assert split(world, 100)["gpu"] == Split(used=GPU_UNITS, reserved=GPU_UNITS, free=GPU_UNITS)


def test_what_no_instance_can_use_is_stranded():
    """Two 3g instances leave one compute slice of seven, and no memory slot for it."""
    pieces = tuple(Piece(1, 19_500, "3g.40gb", start) for start in (0, 4))
    node = Node(1, "n1", "gpu", 64_000, 64_000, (Gpu(1, H100, mig=True),))
    world = replace(cluster("n1 ."), nodes=(node,), runs=(Run(ask(9, mig="3g.40gb"), (Part(1, pieces),), 1),))
    assert split(world, 0) == {"gpu": Split(used=39_000, stranded=3_000)}


def test_of_a_card_that_stays_cut_all_is_stranded_that_none_of_its_instances_covers():
    cut = Gpu(1, H100, mig=True, layout=(Instance("3g.40gb", 0), Instance("2g.20gb", 4)))
    node = Node(1, "n1", "gpu", 64_000, 64_000, (cut,))
    world = replace(cluster("n1 ."), nodes=(node,), runs=())
    covered = 19_500 + 11_250
    assert split(world, 0) == {"gpu": Split(free=GPU_UNITS)}
    assert split(world, 0, recut=False) == {"gpu": Split(free=covered, stranded=GPU_UNITS - covered)}
    state = State(Policy(recut=False))
    state.load(replace(world, teams=(Team(1, "all", quotas=(Quota("gpu", percent_milli=100_000),)),)))
    assert state.account("gpu", 1).guaranteed == covered
