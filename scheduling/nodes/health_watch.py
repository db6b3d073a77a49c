"""What the agent tells of its GPUs' health, and when a container counts as gone from them.

A process takes a moment to let go of a card, so a stranger or left-behind memory counts only once it has been there for
a while; but a container's place is not reported free before its cards are clean, or known not to be.
"""

from collections.abc import Iterable, Mapping, Set

from scheduling.nodes.health import BASELINE_MIB, Health, Process, Reading

#: how long a card may take to become clean after a container's end
PATIENCE_S = 10.0


class HealthWatch:
    """Remembers since when each card is dirty, and which cards there were. Losing it costs a moment's patience."""

    def __init__(self) -> None:
        self._dirty_since: dict[str, float] = {}
        self._told: set[str] = set()
        self._known: set[str] = set()
        self._unseen_since: float | None = None
        self._told_unseen = False

    def know(self, gpus: Iterable[str]) -> None:
        """These cards are there; one that stops answering is missed from now on."""
        self._known |= set(gpus)

    def judge(
        self, readings: tuple[Reading, ...] | None, holders: Mapping[str, Set[str]], *, at: float
    ) -> tuple[Health, ...]:
        """The health of every known card. `holders`: card -> allocations with something of them on the machine. `at`:
        monotonic seconds."""
        if readings is None:
            if self._unseen_since is None:
                self._unseen_since = at
            self._told_unseen = at - self._unseen_since >= PATIENCE_S  # one that is started again answers in seconds
            return tuple(Health(uuid, seen=False) for uuid in sorted(self._known)) if self._told_unseen else ()
        self._unseen_since, self._told_unseen = None, False
        self.know(reading.gpu_uuid for reading in readings)
        found = {reading.gpu_uuid: reading for reading in readings}
        return tuple(
            self._health(found.get(uuid, Reading(uuid, answers=False)), holders.get(uuid, frozenset()), at)
            for uuid in sorted(self._known)
        )

    def unclean(self, gpus: Iterable[str]) -> bool:
        """Is one of these cards dirty, and is that not told yet? Then what was on it does not count as gone."""
        if self._unseen_since is not None:
            return not self._told_unseen and any(True for _ in gpus)
        return not (self._dirty_since.keys() - self._told).isdisjoint(gpus)

    def dirty(self, gpus: Iterable[str]) -> bool:
        """Is one of these cards dirty, or can nobody see it? Then nothing is started on it, told or not."""
        return self._unseen_since is not None or not self._dirty_since.keys().isdisjoint(gpus)

    def _health(self, reading: Reading, holders: Set[str], at: float) -> Health:
        uuid = reading.gpu_uuid
        strangers = _strangers(reading, holders)
        free = reading.answers and not holders and not reading.processes
        used = reading.memory_used_mib or 0
        leaked = used if free and used > BASELINE_MIB else 0
        if not strangers and not leaked:
            self._dirty_since.pop(uuid, None)
            self._told.discard(uuid)
        elif at - self._dirty_since.setdefault(uuid, at) >= PATIENCE_S:
            self._told.add(uuid)
        told = uuid in self._told
        return Health(
            gpu_uuid=uuid,
            answers=reading.answers,
            xids=reading.xids,
            ecc_uncorrected=reading.ecc_uncorrected,
            remap_pending=reading.remap_pending,
            remap_failed=reading.remap_failed,
            recovery=reading.recovery,
            strangers=strangers if told else (),
            leaked_mib=leaked if told else 0,
        )


def _strangers(reading: Reading, holders: Set[str]) -> tuple[Process, ...]:
    """Processes that belong to nobody who holds the card. Beside somebody's work only those count of which it is known
    where they belong: an agent that cannot see the machine's processes must not call everybody a stranger."""
    if not holders:
        return reading.processes
    return tuple(p for p in reading.processes if p.allocation is not None and p.allocation not in holders)
