"""When a reason is worth writing anew: a long queue must not be rewritten with every start."""

import pytest

from scheduling.records.holds import _differ


@pytest.mark.parametrize(
    ("old", "new", "written"),
    [
        ({}, {"position": 1}, True),
        ({"position": 2, "free_gpus": 0}, {"position": 2, "free_gpus": 0}, False),
        ({"position": 2, "free_gpus": 0}, {"position": 1, "free_gpus": 0}, True),
        ({"position": 2, "free_gpus": 0}, {"position": 2, "free_gpus": 1}, True),
        ({"position": 1000, "free_gpus": 0}, {"position": 999, "free_gpus": 1}, False),
        ({"position": 1000}, {"position": 900}, True),
        ({"position": 51}, {"position": 50}, True),
        ({}, {"position": 700}, True),
    ],
)
def test_the_front_of_the_queue_is_exact_and_the_rest_within_a_tenth(old, new, written):
    assert _differ(old, new) is written
