"""Fragmentation after the paper's measure: what is free and of no use to the work that usually comes."""

from scheduling.core.cluster import Ask, Cluster, Gpu, Node, Pool, Run, Shape, Team
from scheduling.core.fragmentation import Mix, Room, growth, useful
from scheduling.core.plan import Planner, plan
from scheduling.core.policy import Policy


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


# ------------------------------------------------------------------------------------------------ in the plan
def machine(number: int, cards: int, model: str) -> Node:
    return Node(number, f"n{number}", "gpu", 64_000, 65_536,
                tuple(Gpu(id=number * 10 + place, model=model) for place in range(cards)))  # fmt: skip


def placed(mix: tuple[tuple[Shape, int], ...], *shapes: Shape) -> list[list[tuple[int, tuple[int, ...]]]]:
    """Nodes and cards of each ask, one after the other; the warm plan is the cold one each time."""
    planner = Planner(Policy())
    nodes, team = (machine(1, 2, "A100"), machine(2, 2, "T4")), Team(1, "red")
    planner.load(Cluster(nodes=nodes, pools=(Pool("gpu"),), teams=(team,), mix=mix))
    found = []
    for number, shape in enumerate(shapes, start=1):
        ask = Ask(number, 1, 1, shape, number, 1000)
        planner.submit(ask)
        outcome = planner.plan(100 + number)
        assert outcome == plan(planner.snapshot(), Policy(), 100 + number)
        for place in outcome.places:
            planner.started(Run(ask, place.parts, 100 + number, running_at=100 + number), now=100 + number)
            found.append([(part.node, tuple(piece.gpu for piece in part.pieces)) for part in place.parts])
    return found


def test_with_a_mix_common_work_leaves_the_rare_cards_to_those_who_need_them():
    picky, common = Shape(gpus=1, models=("A100",)), Shape(thousandths=500)
    assert placed(((picky, 5), (common, 5)), common, common) == [[(2, (20,))], [(2, (20,))]]


def test_without_a_mix_the_first_card_that_fits_tightly_is_taken():
    assert placed((), Shape(thousandths=500)) == [[(1, (10,))]]


def test_a_share_fills_the_card_that_it_fills_best():
    shares = [Shape(thousandths=part) for part in (700, 600, 300)]
    first, second, third = placed(tuple((share, 1) for share in shares), *shares)
    assert third == first != second


def test_work_without_gpus_goes_where_cards_lose_least_of_their_use():
    """Both nodes have cores to spare. Those of the first are what jobs for its free card usually need."""
    on_a100, on_t4 = (Shape(gpus=1, cpu_millis=4000, models=(model,)) for model in ("A100", "T4"))
    cores, usual = Shape(cpu_millis=16_000), Shape(gpus=1, cpu_millis=50_000, models=("A100",))
    mix = ((usual, 9), (Shape(thousandths=500), 1))
    assert placed(mix, on_a100, on_t4, cores)[2] == [(2, ())]
    assert placed((), on_a100, on_t4, cores)[2] == [(1, ())]
