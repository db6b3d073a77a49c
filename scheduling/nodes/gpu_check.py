"""The agent's look at its cards: their health every few seconds, and always before a container starts on them or is
reported gone from them."""

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import replace

from portal.kernel import clock
from scheduling.nodes.driver import ContainerSpec, Driver, Inventory, NodeUnreachable, Observation, Phase
from scheduling.nodes.exchange import DesiredPart
from scheduling.nodes.health import Health, Reading, WatchesGpus
from scheduling.nodes.health_watch import HealthWatch

CHECK_INTERVAL_S = 5.0


class GpuCheck:
    """`waiting`: something waits for its cards to become clean; look again soon."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver if isinstance(driver, WatchesGpus) else None
        self._watch = HealthWatch()
        self._checked_at = float("-inf")
        self.waiting = False

    def know(self, inventory: Inventory) -> None:
        self._watch.know(gpu.uuid for gpu in inventory.gpus)

    def look(
        self, said: Sequence[Observation], parts: Sequence[DesiredPart], here: Set[str]
    ) -> tuple[tuple[Observation, ...], tuple[Health, ...]]:
        """What may be told of `said`, and the health of the cards if it was looked at; () if not. `here`: allocations
        of which something is on this machine."""
        self.waiting = False
        cards = {part.spec.allocation: cards_of(part.spec) for part in parts}
        going = {seen.allocation for seen in said if seen.phase is Phase.GONE and cards.get(seen.allocation)}
        at = clock.monotonic()
        if self._driver is None or (not going and at - self._checked_at < CHECK_INTERVAL_S):
            return tuple(said), ()
        health = self._judge(self._driver, parts, here)
        if health is None:  # between two answers of its engine; the next round asks again
            kept = going
        else:
            self._checked_at = at
            kept = {allocation for allocation in going if self._watch.unclean(cards[allocation])}
        self.waiting = bool(kept)
        return tuple(seen for seen in said if seen.allocation not in kept), health or ()

    def startable(
        self, specs: Sequence[ContainerSpec], parts: Sequence[DesiredPart], here: Set[str]
    ) -> tuple[ContainerSpec, ...]:
        """Those of `specs` whose cards are clean. The others wait: either the cards become clean, or the portal hears
        that they are not, and takes the work elsewhere."""
        if self._driver is None or not any(cards_of(spec) for spec in specs):
            return tuple(specs)
        seen = self._judge(self._driver, parts, here) is not None
        ready = tuple(s for s in specs if not cards_of(s) or (seen and not self._watch.dirty(cards_of(s))))
        self.waiting = self.waiting or len(ready) < len(specs)
        return ready

    def _judge(self, driver: WatchesGpus, parts: Sequence[DesiredPart], here: Set[str]) -> tuple[Health, ...] | None:
        holders: dict[str, set[str]] = defaultdict(set)
        for part in parts:
            for card in cards_of(part.spec) if part.spec.allocation in here else ():
                holders[card].add(part.spec.allocation)
        try:
            readings: tuple[Reading, ...] | None = driver.gpu_health()
        except NodeUnreachable:
            return None
        boot_ms = int(clock.boottime() * 1000)
        told = self._watch.judge(readings, holders, at=clock.monotonic())
        return tuple(replace(health, boot_ms=boot_ms) for health in told)


def cards_of(spec: ContainerSpec) -> frozenset[str]:
    """UUIDs of the cards that a container has, also where it has an instance of one."""
    return frozenset(uuid for uuid, _ in spec.layout_versions) or frozenset(device.uuid for device in spec.devices)
