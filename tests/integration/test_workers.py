"""Worker processes as a cluster has them, on PostgreSQL and Redis: one schedules, and when it dies another does."""

import pytest

from tests.services import wait_for
from tests.worker_site import worker_site


@pytest.fixture(scope="module")
def whole_site(postgres_url, redis_url):
    with worker_site(postgres_url, redis_url) as started:
        yield started


@pytest.fixture
def site(whole_site):
    """No worker runs yet."""
    yield whole_site
    whole_site.kill_workers()


def test_a_leader_that_is_killed_is_replaced_within_five_seconds(site):
    for name in ("one", "two"):
        site.start_worker(name)
    wait_for(site.leader, seconds=60, what="a leader")
    site.stands_by(1)
    site.placed(site.ask("submit")[0], seconds=20)
    for turn in (1, 2):
        first = site.leader()
        site.kill(first)
        site.placed(site.ask("submit")[0], seconds=5)
        wait_for(site.leader, seconds=5, what="another leader on record")
        if turn == 1:
            site.start_worker("another")
            site.stands_by(2)


def test_a_worker_that_is_told_to_end_hands_the_lead_over_at_once(site):
    for name in ("one", "two"):
        site.start_worker(name)
    wait_for(site.leader, seconds=60, what="a leader")
    site.stands_by(1)
    first = site.leader()
    site.workers[first].terminate()
    site.placed(site.ask("submit")[0], seconds=5)
    assert site.workers[first].wait(30) == 0, site.log()


def test_without_redis_scheduling_goes_on(site, monkeypatch):
    """Nothing listens at this address: the worker never becomes ready, and its loop runs all the same."""
    monkeypatch.setitem(site.environment, "BERTH_REDIS_URL", "redis://127.0.0.1:1/0")
    site.start_worker("alone")
    wait_for(site.leader, seconds=60, what="a leader")
    site.placed(site.ask("submit")[0], seconds=20)
