"""What only whole processes show: from a hint to the cycle that it asks for, and from a leader's death to the next."""

import time
from statistics import median, quantiles

from tests.services import wait_for
from tests.worker_site import Site, worker_site

SUBMITS = 60
DEATHS = 5


def measure_workers(database: str, redis: str) -> None:
    """Two Celery workers (`celery -A portal worker`) and a third process that submits."""
    with worker_site(database, redis, cards=SUBMITS + 2 * DEATHS + 4) as site:
        for name in ("one", "two"):
            site.start_worker(name)
        wait_for(site.leader, seconds=120, what="a leader")
        site.stands_by(1)
        for _ in range(3):
            _placed_at(site, site.ask("submit")[0])
        _hints(site)
        _deaths(site)


def _hints(site: Site) -> None:
    waits = []
    for number in range(SUBMITS):
        job, committed = site.ask("submit")
        waits.append((_placed_at(site, job) - committed) * 1000)
        time.sleep(0.05 + 0.03 * (number % 7))  # in no step with the period
    cut = quantiles(waits, n=20)
    print(
        f"  from the hint of a submit to the beginning of the cycle that places it: median {median(waits):.0f} ms, 95 % "
        f"below {cut[18]:.0f} ms, longest {max(waits):.0f} ms ({SUBMITS} submits); target 100 ms",
        flush=True,
    )


def _deaths(site: Site) -> None:
    waits = []
    for number in range(DEATHS):
        first = site.leader()
        assert first is not None
        died = time.time()
        site.kill(first)
        job, _ = site.ask("submit")
        waits.append(_placed_at(site, job) - died)
        site.start_worker(f"next{number}")
        wait_for(site.leader, seconds=60, what="the leader on record")
        site.stands_by(number + 2)
    told = ", ".join(f"{wait:.2f}" for wait in waits)
    print(f"  from kill -9 of the leader to the next one's cycle: {told} s; target 5 s", flush=True)


def _placed_at(site: Site, job: int) -> float:
    at = wait_for(lambda: site.ask("placed_at", job), seconds=60, what="its cycle")
    assert isinstance(at, float)
    return at
