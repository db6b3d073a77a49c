"""What stands in the way of a job that found no place: the dominant obstacle with its numbers, for `Hold`."""

from scheduling.core.cluster import Ask, Shape
from scheduling.core.decisions import Cause, HoldCode
from scheduling.core.places.filters import ISLAND, Options, Want, by_island, lacking, linked, merged
from scheduling.core.places.gangs import capacities
from scheduling.core.rights import beyond_cap, beyond_guarantee
from scheduling.core.state import State


class Causes:
    """Makes causes and keeps them, so that equal ones are the same object and comparing them costs nothing."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Cause] = {}

    def of(self, code: HoldCode, **numbers: int) -> Cause:
        key = (code, *numbers.items())
        cause = self._known.get(key)
        if cause is None:
            cause = self._known[key] = Cause(code, tuple(sorted(numbers.items())))
        return cause


def rights_cause(causes: Causes, state: State, ask: Ask, pool: str, units: int, code: HoldCode) -> Cause:
    """The numbers of a missing right in units; in a pool without GPUs these are thousandths of a core, and say so."""
    account = state.trees[pool].account(ask.team)
    unit = "" if pool in state.gpu_pools else "_cpu_millis"

    def of(**numbers: int) -> Cause:
        return causes.of(code, **{f"{name}{unit}": number for name, number in numbers.items()})

    if code is HoldCode.USER_LIMIT:
        above = beyond_cap(account, ask.user, units) or account
        return of(asked=units, used=above.capped.get(ask.user, 0), limit=above.quota.user_limit or 0)
    if code is HoldCode.GUARANTEE_USED:
        above = beyond_guarantee(account, units) or account
        return of(asked=units, used=above.firm, limit=above.guaranteed)
    return of(asked=units, left=max(0, account.room()))


def never_cause(causes: Causes, state: State, shape: Shape) -> Cause:
    """No pool has the kind of node that it needs: what it is that none has."""
    if not any(host.node.accepts for host in state.ledger.hosts.values()):
        return causes.of(HoldCode.NO_NODES)
    return causes.of(
        HoldCode.NEVER_FITS, lacks=lacking(state.ledger.groups.values(), shape), gpus=shape.gpus,
        gpu_memory_mib=shape.gpu_memory_mib, cpu_millis=shape.cpu_millis, memory_mib=shape.memory_mib,
    )  # fmt: skip


def capacity_cause(causes: Causes, state: State, want: Want) -> Cause:
    """GPUs before CPU before memory; enough of each on some node: then it is the topology, or the sum over nodes."""
    shape = want.shape
    options = merged(state.search.options(shape, want.pool))
    if not any(bucket for group, _ in options for bucket in group.buckets):
        return causes.of(HoldCode.NO_NODES)
    if shape.required == ISLAND and shape.gpus:
        gpus, free = shape.gpus * shape.replicas, max(_most_free(state, inside) for inside in by_island(options, shape))
        if free < gpus:
            return causes.of(HoldCode.ISLAND_BUSY, gpus=gpus, free_gpus=free)
    if shape.wants_gpu and not shape.gpus:
        return causes.of(HoldCode.SLICES_BUSY, units=state.costs_of(shape)[0][1] // shape.replicas)
    ids = [
        host_id
        for group, cards in options
        for count in range(shape.gpus, group.size + 1)
        for host_id in group.buckets[count]
        if linked(group, state.ledger.hosts[host_id].free & cards, shape).bit_count() >= shape.gpus
    ]
    if not ids:
        return causes.of(HoldCode.GPUS_BUSY, gpus=shape.gpus, free_gpus=_most_free(state, options))
    cpu = max(_spare(state, i, want)[0] for i in ids)
    if cpu < shape.cpu_millis:
        return causes.of(HoldCode.CPU_BUSY, cpu_millis=shape.cpu_millis, free_cpu_millis=max(0, cpu))
    memory = max(_spare(state, i, want)[1] for i in ids if _spare(state, i, want)[0] >= shape.cpu_millis)
    if memory < shape.memory_mib:
        return causes.of(HoldCode.MEMORY_BUSY, memory_mib=shape.memory_mib, free_memory_mib=max(0, memory))
    if shape.replicas == 1:  # there is room on a node, but somebody else is promised it at this very time
        return causes.of(HoldCode.RESERVED)
    return _gang_cause(causes, state, want, options)


def _most_free(state: State, options: Options) -> int:
    """The most suitable cards that are free on one node: the fullest bucket says it where all cards suit."""
    most = 0
    for group, cards in options:
        for count in range(group.size, most, -1):
            if group.buckets[count]:
                free = (state.ledger.hosts[host_id].free for host_id in group.buckets[count])
                all_suit = cards.bit_count() == group.size
                most = max(most, count if all_suit else max((bits & cards).bit_count() for bits in free))
    return most


def _spare(state: State, host_id: int, want: Want) -> tuple[int, int]:
    host = state.ledger.hosts[host_id]
    return (host.cpu, host.memory) if want.shape.wants_gpu else state.search.spare(host, want)


def _gang_cause(causes: Causes, state: State, want: Want, options: Options) -> Cause:
    """One replica fits and the gang does not."""
    fitting = sum(found.replicas for found in capacities(state.search, want, options))
    if fitting >= want.shape.replicas and want.shape.required:
        return causes.of(HoldCode.TOPOLOGY, replicas=want.shape.replicas, fitting=fitting)
    return causes.of(HoldCode.GANG_BUSY, replicas=want.shape.replicas, fitting=fitting, gpus=want.shape.gpus)
