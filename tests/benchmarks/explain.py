"""`make bench-explain`: how long it takes to find and prove what would start one waiting job now, as measured here.

CPU seconds of one core, on 1,000 nodes with 10,000 waiting jobs of every kind; no figure is asserted. The planner is
warm, as the live loop keeps it; `cold` loads the snapshot first.
"""

from statistics import median
from time import process_time

from scheduling.core.cluster import Run
from scheduling.core.lifecycle import JobState
from scheduling.core.plan import Planner
from scheduling.core.policy import Policy
from scheduling.core.remedies import Prover
from tests.benchmarks.core.queues import NOW, mixed

JOBS = 25
#: of so many about 10,000 are left once the cluster has settled
MANY = 12_700


def settled(planner: Planner) -> int:
    """Let a few cycles pass in which nothing new comes, so that the plan has little left to decide. The time after."""
    now = NOW
    for _ in range(6):
        now += 60
        outcome = planner.plan(now)
        for place in outcome.places:
            wish = planner.queue.asks[place.job]
            planner.started(Run(wish, place.parts, now, JobState.RUNNING, now, now, pool=place.pool), now=now)
        for claim in outcome.claims:
            planner.claimed(claim, now=now)
        for stop in outcome.stops:
            planner.ended(stop.job, now=now)
    return now


def main() -> None:
    policy = Policy()
    planner = Planner(policy)
    planner.load(mixed(1000, MANY))
    now = settled(planner)
    started = process_time()
    holds = planner.plan(now).holds
    print(f"1,000 nodes, {len(holds):,} waiting: one warm plan {process_time() - started:.3f} s")
    started = process_time()
    prover = Prover(planner.snapshot(), policy, now)
    print(f"loading the snapshot for proofs: {process_time() - started:.3f} s (once per snapshot)")
    costs, found = [], 0
    for hold in holds[:: max(1, len(holds) // JOBS)][:JOBS]:
        started = process_time()
        changes = prover.changes(hold.job, tiers=("production", "normal", "batch"))
        costs.append(process_time() - started)
        found += len(changes)
        said = ", ".join(f"{c.what}={c.value}" for c in changes) or "nothing starts it now"
        print(f"  job {hold.job} ({hold.code}): {costs[-1] * 1000:7.1f} ms  {said}")
    print(
        f"median {median(costs) * 1000:.0f} ms, longest {max(costs) * 1000:.0f} ms, {found} changes for {len(costs)} jobs"
    )


if __name__ == "__main__":
    main()
