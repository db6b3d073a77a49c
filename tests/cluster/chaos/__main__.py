"""`make chaos`: a bounded run that ends with a report, and with 1 if anything that must hold does not."""

import argparse
import random
import signal
import sys
import time
from collections import Counter

from tests.cluster.chaos import invariants
from tests.cluster.chaos.faults import Monkey
from tests.cluster.chaos.lossy import LossyRoad
from tests.cluster.cluster import Cluster
from tests.cluster.network import CannotRun
from tests.cluster.starting import running_cluster
from tests.cluster.work import Ask, submit
from tests.prepare import prepare
from tests.services import free_port

LEASE_S = 10
FENCE_S = LEASE_S + 20 + 10
GANG_SIZES = (2, 4, 8)


def main() -> int:
    asked = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    asked.add_argument("--jobs", type=int, default=1000, metavar="N", help="short ones (default: %(default)s)")
    asked.add_argument("--gangs", type=int, default=20, metavar="N", help="of 2, 4 or 8 parts (default: %(default)s)")
    asked.add_argument("--seed", type=int, default=1, metavar="N", help="of the faults and of the jobs' lengths")
    asked.add_argument("--minutes", type=float, default=20, metavar="N", help="at most (default: %(default)s)")
    options = asked.parse_args()
    if missing := prepare():
        print(f"A cluster needs these packages; as root: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 1
    # A shell that starts us in the background lets us ignore the first of them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        return chaos(jobs=options.jobs, gangs=options.gangs, seed=options.seed, most_s=options.minutes * 60)
    except CannotRun as refusal:
        print(f"make chaos: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; nothing is left.")
        return 130


def chaos(*, jobs: int, gangs: int, seed: int, most_s: float) -> int:
    """One run. 0: every invariant holds."""
    dice = random.Random(seed)
    ports = [free_port(), free_port()]
    road = LossyRoad(ports, seed=seed)
    try:
        with running_cluster(
            gpus=8,
            lab=False,
            web_ports=ports,
            detours={"/api/v1/nodes/exchange": road.port},
            BERTH_NODE_LEASE=f"{LEASE_S}s",
        ) as cluster:
            return _run(cluster, road, asks_of(dice, jobs=jobs, gangs=gangs), seed=seed, most_s=most_s)
    finally:
        road.close()


def asks_of(dice: random.Random, *, jobs: int, gangs: int) -> list[tuple[Ask, str]]:
    """(job, the state that it ends in if nobody kills it), gangs among the others."""
    made = []
    for number in range(jobs):
        seconds, fails = dice.choice((0, 1, 1, 2, 3)), dice.random() < 0.1
        made.append((Ask(f"job-{number}", script=f"sleep {seconds}; exit {3 if fails else 0}"), fails))
    for number in range(gangs):
        size = dice.choice(GANG_SIZES)
        made.append((Ask(f"gang-{number}", script=f"sleep {dice.choice((1, 2, 3))}", replicas=size), False))
    dice.shuffle(made)
    return [(ask, "failed" if fails else "succeeded") for ask, fails in made]


def _run(cluster: Cluster, road: LossyRoad, asks: list[tuple[Ask, str]], *, seed: int, most_s: float) -> int:
    began = time.monotonic()
    print(f"Submitting {len(asks)} jobs…", flush=True)
    monkey = Monkey(cluster, road, seed=seed, fence_s=FENCE_S)
    monkey.start()
    wanted: dict[int, str] = {}
    try:
        for first in range(0, len(asks), 100):
            some = asks[first : first + 100]
            print(f"{time.monotonic() - began:6.0f} s: {first} submitted", flush=True)
            wanted |= dict(zip(submit(cluster, *[ask for ask, _ in some]), [end for _, end in some], strict=True))
        monkey.partition()
        # Faults fall while there is work; the last of it has to be done in peace, for somebody must see it through.
        while (left := unfinished(cluster)) > len(asks) // 20 and time.monotonic() - began < most_s * 0.75:
            print(f"{time.monotonic() - began:6.0f} s: {left} jobs left", flush=True)
            time.sleep(10)
    except BaseException:
        monkey.stop(hurry=True)
        raise
    monkey.stop()
    while (left := unfinished(cluster)) and time.monotonic() - began < most_s:
        print(f"{time.monotonic() - began:6.0f} s, in peace: {left} jobs left", flush=True)
        time.sleep(5)
    took = time.monotonic() - began
    until = time.monotonic() + 30
    while any(node.containers() for node in cluster.nodes.values()) and time.monotonic() < until:
        time.sleep(1)
    return report(cluster, monkey, road, wanted, took=took)


def unfinished(cluster: Cluster) -> int:
    ((count,),) = cluster.query("SELECT count(*) FROM scheduling_job WHERE NOT state = ANY(%s)", [*invariants.FINAL])
    return int(count)


def report(cluster: Cluster, monkey: Monkey, road: LossyRoad, wanted: dict[int, str], *, took: float) -> int:
    found = invariants.broken(cluster, wanted, monkey.killed)
    ((attempts, most),) = cluster.query("SELECT sum(attempt), max(attempt) FROM scheduling_job")
    print(f"\n{len(wanted)} jobs in {took:.0f} s, {attempts} attempts, at most {most} of one job")
    _table("how they ended", invariants.outcomes(cluster))
    _table("sent back to the queue because of", invariants.requeues(cluster))
    _table("what was done to the cluster", sorted(monkey.done.items()))
    _table("what befell the exchanges of agents", sorted(road.done.items()))
    print("\nwhat must hold")
    for name, breaks in found.items():
        print(f"    {'ok    ' if not breaks else 'BROKEN'} {name}{'' if not breaks else f': {len(breaks)} times'}")
        for one in breaks[:10]:
            print(f"           {one}")
    bad = Counter(name for name, breaks in found.items() if breaks)
    if monkey.trouble:
        print(f"\nThe faults ended early: {monkey.trouble}")
    return 1 if bad or monkey.trouble else 0


def _table(title: str, rows: list[tuple[str, int]]) -> None:
    print(f"\n{title}")
    for name, count in rows:
        print(f"    {count:7} {name}")


if __name__ == "__main__":
    sys.exit(main())
