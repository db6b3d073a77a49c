"""Nobody is evicted by whom he evicted: in crowded worlds with hierarchical teams, many of them, each by its number.

Within the horizon of the rule (max(10 min, twice the minimum runtime) after its eviction) a job evicts nobody at all.
Later it takes from whoever followed it only what its team is owed by then: both sides must have crossed their
guarantees since it fell. So nobody comes back within the horizon; and in a world in which nothing comes and nothing
ends any more, the evictions come to an end.
"""

import os

import pytest

from tests.properties.crowds import crowd
from tests.properties.toy import Toy

#: the first few, and those in which something once went in circles
QUICK = (*range(2), 52, 170, 4809)
MANY = int(os.environ.get("TEST_LOOPS", "10000"))
#: at rest, these came back long after the horizon, when third parties had moved the shares
LATE = (169, 4014, 6387)
#: long after the last arrival, so that who was evicted is free to evict again, and who is suspended was given up
BUSY, RESTING = (300,) * 30, (700,) * 60
#: so many steps without a decision are longer than anybody is suspended: nothing will happen any more
FIXED_POINT = 25


def loops(seed: int, *, endless: bool, check_cold: bool, ever: bool = False) -> tuple[list[str], int]:
    """What went in circles in this world, in words, and how many evictions there were. `ever`: whenever it was, else
    within the horizon."""
    cluster, policy, steps = crowd(seed, endless=endless)
    toy = Toy(cluster, policy, check_cold=check_cold)
    horizon: dict[int, int] = {}
    for seconds, jobs in steps:
        for ask in jobs:
            toy.submit(ask)
            horizon[ask.job] = max(policy.no_evict_s, 2 * ask.min_runtime_s)
        toy.step(seconds)
    calm_steps = 0
    for seconds in RESTING if endless else BUSY:
        _, outcome = toy.step(seconds)
        decided = outcome.places or outcome.claims or outcome.stops
        calm_steps = 0 if decided else calm_steps + 1
        if endless and calm_steps == FIXED_POINT:
            break
    found = [
        f"world {seed}: {winner} evicted {loser} at {first}, {loser} evicted {winner} at {later}"
        for first, winner, loser in toy.evictions
        for later, back, again in toy.evictions
        if first < later and (ever or later < first + horizon[loser]) and (back, again) == (loser, winner)
    ]  # fmt: skip
    if endless and toy.evictions and toy.evictions[-1][0] > toy.now - 7000:
        found.append(f"world {seed}: still evicting at {toy.evictions[-1]}")
    return found, len(toy.evictions)


@pytest.mark.parametrize("endless", [False, True], ids=["busy", "resting"])
def test_nobody_is_evicted_by_whom_he_evicted(endless):
    results = [loops(seed, endless=endless, check_cold=False) for seed in QUICK]
    assert not [found for founds, _ in results for found in founds]
    assert sum(count for _, count in results) >= 2, "worlds in which nobody falls prove nothing"


def test_at_rest_nobody_takes_his_place_back_because_others_have_moved_the_shares():
    results = [loops(seed, endless=True, check_cold=False, ever=True) for seed in LATE]
    assert not [found for founds, _ in results for found in founds]
    assert all(count for _, count in results), "worlds in which nobody falls prove nothing"


@pytest.mark.long
@pytest.mark.parametrize("endless", [False, True], ids=["busy", "resting"])
def test_nobody_is_evicted_by_whom_he_evicted_in_ten_thousand_worlds(endless):
    assert not [found for seed in range(MANY) for found in loops(seed, endless=endless, check_cold=False)[0]]
