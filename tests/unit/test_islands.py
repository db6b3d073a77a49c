"""NVLink islands from what each card says of its links."""

import tomllib
from pathlib import Path

from scheduling.nodes.driver import GpuInfo
from scheduling.nodes.islands import islands_of
from scheduling.nodes.version import VERSION


def card(index, *ends, says=True):
    links = tuple((end, 4) for end in ends) if says else None
    bus = f"00000000:{index + 1:02X}:00.0"
    return GpuInfo(f"GPU-{index}", index, "NVIDIA A100", 81920, pci_bus_id=bus, nvlinks=links)


def bus(index):
    return f"00000000:{index + 1:02x}:00.0"


def islands(*cards):
    return list(islands_of(cards).values())


def test_cards_that_are_linked_in_pairs_are_islands_of_two():
    assert islands(card(0, bus(1)), card(1, bus(0)), card(2, bus(3)), card(3, bus(2))) == [1, 1, 3, 3]


def test_cards_that_share_switches_are_one_island():
    assert islands(*(card(index, "00000000:C0:00.0", "00000000:C1:00.0") for index in range(8))) == [1] * 8


def test_two_halves_with_switches_of_their_own_are_two_islands():
    halves = [card(index, f"00000000:{'C' if index < 4 else 'D'}0:00.0") for index in range(8)]
    assert islands(*halves) == [1, 1, 1, 1, 5, 5, 5, 5]


def test_a_switch_that_a_virtual_machine_is_not_shown_is_shared_all_the_same():
    assert islands(card(0, "unknown"), card(1, "FFFFFFFF:FF:FF.F")) == [1, 1]


def test_a_chain_of_links_is_one_island_in_whatever_order_it_is_told():
    chain = [card(0, bus(1)), card(1, bus(0), bus(2)), card(2, bus(1))]
    assert islands(*chain) == [1, 1, 1]
    assert islands_of(chain[::-1]) == islands_of(chain)


def test_a_card_without_links_is_alone_and_one_that_does_not_say_is_unknown():
    assert islands(card(0), card(1), card(2, says=False)) == [1, 2, 0]


def test_no_cards_no_islands():
    assert islands_of(()) == {}


def test_the_agents_version_is_the_projects():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
