"""The garbage collector waits while a plan is made, and finds nothing afterwards."""

import gc

from scheduling.core.collector import collector_paused
from scheduling.core.plan import Planner
from scheduling.core.policy import Policy
from tests.pictures import ask, cluster


def test_collections_wait_and_go_on_afterwards():
    with collector_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_where_collections_are_off_they_stay_off():
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_plan_leaves_no_rings_of_objects_behind():
    world = cluster("n1 aab. | n2 cccc", ask(1, gpus=1), ask(2, gpus=2), ask(3, gpus=4), ask(4, gpus=9), ask(5))
    gc.collect()
    gc.disable()
    try:
        planner = Planner(Policy())
        planner.load(world)
        for now in (100, 200):
            planner.plan(now)
        assert gc.collect() == 0
    finally:
        gc.enable()
