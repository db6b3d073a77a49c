"""plan(cluster, policy) -> Plan: who gets which slots in this cycle, who must stop, and why the others wait.

Deterministic: the same snapshot gives the same plan. The same function serves the live loop and, later, the simulator,
estimates and what-if questions.
"""

from scheduling.core.cluster import Ask, Cluster
from scheduling.core.decisions import Hold, HoldCode, Place, Plan, Stop
from scheduling.core.explain import behind, why_not
from scheduling.core.ledger import Ledger
from scheduling.core.lifecycle import EndReason, JobState
from scheduling.core.placement import could_ever_fit, place
from scheduling.core.policy import Policy


def plan(cluster: Cluster, policy: Policy) -> Plan:
    """Expire what is over its time, then walk the queue in order."""
    stops = _expire(cluster, policy)
    places, holds = _walk(cluster)
    return Plan(stops=stops, places=places, holds=holds)


def _expire(cluster: Cluster, policy: Policy) -> tuple[Stop, ...]:
    """Step 1: every state has a time-out, so nothing waits for ever for a machine that does not answer."""
    stops = []
    for run in cluster.runs:
        if run.state is JobState.RUNNING and run.ran_s >= run.limit_s:
            stops.append(Stop(run.job, run.version, EndReason.TIMED_OUT))
        elif run.state is JobState.STARTING and run.in_state_s >= policy.start_timeout_s:
            stops.append(Stop(run.job, run.version, EndReason.START_TIMEOUT))
        elif run.state is JobState.PLACED and run.stalled_s >= policy.place_timeout_s:
            stops.append(Stop(run.job, run.version, EndReason.PLACE_TIMEOUT))
    return tuple(stops)


def _walk(cluster: Cluster) -> tuple[tuple[Place, ...], tuple[Hold, ...]]:
    """Step 2: first come, first served. A job that needs GPUs never overtakes an older one that waits for GPUs, so
    large asks do not starve; work without GPUs does not stand in that line."""
    ledger = Ledger(cluster)
    places: list[Place] = []
    holds: list[Hold] = []
    waiting_for_gpus = 0
    for ask in sorted(cluster.asks, key=_order):
        position = len(holds) + 1
        if ask.gpus and waiting_for_gpus and any(could_ever_fit(ask, node) for node in ledger.accepting()):
            holds.append(behind(ask, position, waiting_for_gpus))
            waiting_for_gpus += 1
            continue
        parts = place(ask, ledger)
        if parts is not None:
            places.append(Place(ask.job, ask.version, parts))
            continue
        hold = why_not(ask, ledger, position)
        holds.append(hold)
        # What no node can ever hold must not bar the way for those behind it.
        if ask.gpus and hold.code is not HoldCode.NEVER_FITS:
            waiting_for_gpus += 1
    return tuple(places), tuple(holds)


def _order(ask: Ask) -> tuple[int, int]:
    return (ask.submitted, ask.job)
