"""Causes and the simple ones among them: a right that is missing, a kind of node that does not exist.

What a job lacks of GPUs, CPU, memory and time is found in `reasons`.
"""

from scheduling.core.cluster import Ask, Shape
from scheduling.core.decisions import Cause, HoldCode
from scheduling.core.places.filters import lacking
from scheduling.core.rights import beyond_cap, beyond_guarantee
from scheduling.core.state import State

#: causes that are kept between plans; numbers that move, such as times, would fill the memory of a planner that lives
MOST_KEPT = 100_000


class Causes:
    """Makes causes and keeps them, so that equal ones are the same object and comparing them costs nothing."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Cause] = {}

    def begin(self) -> None:
        """A plan begins to explain: what was kept is let go where it has become too much."""
        if len(self._known) > MOST_KEPT:
            self._known.clear()

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
    room = account.room()
    return of(asked=units, left=room) if room >= 0 else of(asked=units, over=-room)


def never_cause(causes: Causes, state: State, shape: Shape) -> Cause:
    """No pool has the kind of node that it needs: what it is that none has."""
    if not state.ledger.hosts:
        return causes.of(HoldCode.NO_NODES, nodes=0)
    return causes.of(
        HoldCode.NEVER_FITS, lacks=lacking(state.ledger.groups.values(), shape), gpus=shape.gpus,
        gpu_memory_mib=shape.gpu_memory_mib, cpu_millis=shape.cpu_millis, memory_mib=shape.memory_mib,
    )  # fmt: skip
