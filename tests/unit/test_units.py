"""Integer GPU units."""

import pytest

from scheduling.core.units import GPU_UNITS, fraction, mig, whole


def test_a_whole_card_cut_into_one_mig_instance_costs_the_whole_card():
    assert mig(compute_slices=7, memory_slots=8) == whole(1) == GPU_UNITS


@pytest.mark.parametrize("layout", [[(3, 4), (3, 4)], [(4, 4), (3, 4)], [(1, 1)] * 7, [(2, 2), (2, 2), (2, 2), (1, 1)]])
def test_no_legal_layout_costs_more_than_the_card(layout):
    assert sum(mig(compute_slices=c, memory_slots=m) for c, m in layout) <= GPU_UNITS


def test_fractions_add_up_exactly():
    assert fraction(333) + fraction(667) == GPU_UNITS


@pytest.mark.parametrize("thousandths", [0, -1, 1001])
def test_a_fraction_outside_the_card_is_refused(thousandths):
    with pytest.raises(ValueError, match="thousandths"):
        fraction(thousandths)
