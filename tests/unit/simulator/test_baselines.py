"""The baselines on lines short enough to follow by hand, and the arrivals-only protocol."""

import pytest

from scheduling.simulator.arrivals import replay_arrivals, site_of
from scheduling.simulator.baselines.arrivals import LeastFragmentation, best_fit, random_fit, replay
from scheduling.simulator.baselines.queueing import replay_baseline
from scheduling.simulator.traces.job import TraceJob
from scheduling.simulator.traces.openb import TraceNode
from tests.unit.simulator.test_world import job, site

QUEUE = [
    job("first", 0, 100, gpus=2),
    job("wide", 10, 50, gpus=4),
    job("short", 20, 80, gpus=2),
    job("long", 30, 500, gpus=1),
]


def times(name, jobs=QUEUE, where=None):
    history = replay_baseline(name, where or site(red=4), jobs)
    return {record.job.id: (record.first_start, record.end) for record in history.records}


def test_fifo_blocks_at_its_head():
    assert times("fifo") == {"first": (0, 100), "wide": (100, 150), "short": (150, 230), "long": (150, 650)}


def test_sjf_is_strict_too():
    assert times("sjf") == {"first": (0, 100), "wide": (100, 150), "short": (150, 230), "long": (150, 650)}
    assert times("sjf", [QUEUE[0], job("a", 10, 90, gpus=4), job("b", 20, 30, gpus=4)]) == {
        "first": (0, 100), "b": (100, 130), "a": (130, 220)}  # fmt: skip


def test_best_fit_and_random_pass_over_what_does_not_fit():
    jobs = [QUEUE[0], QUEUE[1], job("short", 20, 90, gpus=2), QUEUE[3]]
    for name in ("best-fit", "random"):
        assert times(name, jobs) == {"first": (0, 100), "short": (20, 110), "long": (100, 600), "wide": (600, 650)}


def test_easy_keeps_the_heads_reservation():
    assert times("easy") == {"first": (0, 100), "short": (20, 100), "wide": (100, 150), "long": (150, 650)}


def test_srtf_preempts_the_longer_and_loses_nothing():
    assert times("srtf", [job("long", 0, 100, gpus=4), job("short", 20, 30, gpus=1)]) == {
        "long": (0, 130), "short": (20, 50)}  # fmt: skip


def test_walls_have_lines_of_their_own():
    where = site(2, 4, red=4, blue=4)
    where.pools_of.update({1: ("gpu",), 2: ("gpu",)})
    jobs = [job("a", 0, 100, gpus=4), job("b", 0, 100, gpus=4), job("c", 1, 5, gpus=4, team="blue")]
    assert times("fifo", jobs, where)["c"] == (100, 105)


def test_every_baseline_ends_every_job_and_is_repeatable():
    jobs = sorted(
        (job(str(n), n * 31 % 97, 5 + n * 17 % 60, gpus=1 + n % 4, replicas=1 + n % 2) for n in range(50)),
        key=lambda item: item.submit_s,
    )
    for name in ("fifo", "sjf", "easy", "srtf", "best-fit", "random"):
        once = times(name, jobs, site(2, 4, red=8))
        assert all(end is not None for _, end in once.values()), name
        assert once == times(name, jobs, site(2, 4, red=8))


# ------------------------------------------------------------------------------------------------ arrivals only
NODES = [TraceNode("big", 4, "G2", 32_000, 65_536), TraceNode("small", 2, "T4", 8_000, 65_536)]


def pod(name, gpus=1, part=1000, cpu=1000, models=()):
    return TraceJob(name, 0, None, gpus=gpus, gpu_thousandths=part, cpu_millis=cpu, memory_mib=1, models=models)


@pytest.mark.parametrize("rule", [best_fit, LeastFragmentation(), random_fit(3)])
def test_what_fits_nowhere_is_dropped_and_the_rest_is_counted(rule):
    pods = [pod("a", 4), pod("b", 4), pod("c", 1, 500, models=("T4",)), pod("d", 1, 600, models=("T4",)),
            pod("e", 1, 100, cpu=99_000), pod("f", 0, 1000)]  # fmt: skip
    arrived = replay(pods, NODES, rule)
    assert arrived.dropped == ("b", "e")
    assert (arrived.held, arrived.capacity) == (5_100, 6_000)
    assert arrived.percent == pytest.approx(85.0)


def test_the_core_places_the_same_arrivals():
    pods = [pod("a", 4), pod("b", 4), pod("c", 1, 500, models=("T4",)), pod("d", 1, 600, models=("T4",))]
    arrived = replay_arrivals(pods, site_of(NODES))
    assert (arrived.held, arrived.dropped) == (5_100, ("b",))
