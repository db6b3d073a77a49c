"""Fragmentation after the paper's measure: what is free and of no use to the work that usually comes."""

from scheduling.core.cluster import Shape
from scheduling.core.fragmentation import Mix, Room, growth, useful


def mix(*shapes: Shape) -> Mix:
    made = Mix()
    for shape in shapes:
        made.saw(shape)
    return made


def room(*cards: int, cpu: int = 64_000, memory: int = 65_536, model: str = "") -> Room:
    return Room(model, cards, cpu, memory)


HALF, WHOLE, PAIR = Shape(thousandths=500), Shape(gpus=1), Shape(gpus=2)


def test_a_part_too_small_for_those_who_come_is_of_no_use():
    assert useful(room(400, 1000), mix(HALF).kinds("")) == 1000
    assert useful(room(600, 1000), mix(HALF).kinds("")) == 1600
    assert useful(room(600, 1000), mix(WHOLE).kinds("")) == 1000


def test_pairs_need_two_whole_cards():
    assert useful(room(1000, 900), mix(PAIR).kinds("")) == 0
    assert useful(room(1000, 1000, 1000), mix(PAIR).kinds("")) == 3000


def test_without_cpu_no_card_is_of_use_and_with_little_only_some():
    asks = mix(Shape(gpus=1, cpu_millis=8000))
    assert useful(room(1000, 1000, cpu=4000), asks.kinds("")) == 0
    assert useful(room(1000, 1000, cpu=8000), asks.kinds("")) == 1000


def test_a_share_goes_where_it_leaves_least_that_nobody_wants():
    seen = mix(HALF, WHOLE)
    filling, opening = growth(room(500, 1000), HALF, seen), growth(room(1000, 1000), HALF, seen)
    assert filling is not None
    assert opening is not None
    assert filling[1] == (0,)
    assert filling[0] < opening[0]


def test_cards_of_a_model_that_few_may_use_are_left_to_them():
    picky = Shape(gpus=1, models=("A100",))
    seen = mix(picky, picky, WHOLE)
    rare, common = growth(room(1000, model="A100"), WHOLE, seen), growth(room(1000, model="T4"), WHOLE, seen)
    assert rare is not None
    assert common is not None
    assert common[0] < rare[0]


def test_what_does_not_fit_has_no_growth():
    assert growth(room(400), HALF, mix(HALF)) is None
    assert growth(room(1000, cpu=1), Shape(gpus=1, cpu_millis=2), mix(HALF)) is None


def test_the_kinds_are_renewed_when_the_asks_have_doubled():
    seen = Mix()
    versions = []
    for _ in range(16):
        seen.saw(HALF)
        versions.append(seen.version)
    assert versions == [1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5]
