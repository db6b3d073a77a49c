"""The agent's look at its cards: their health every few seconds, and always before a container is reported gone."""

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
    """`waiting`: something is gone but for its cards, which are not clean yet; look again soon."""

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
        holders: dict[str, set[str]] = defaultdict(set)
        for allocation in cards.keys() & here:
            for card in cards[allocation]:
                holders[card].add(allocation)
        try:
            readings: tuple[Reading, ...] | None = self._driver.gpu_health()
        except NodeUnreachable:  # between two answers of its engine; the next round asks again
            self.waiting = bool(going)
            return tuple(seen for seen in said if seen.allocation not in going), ()
        boot_ms = int(clock.boottime() * 1000)
        health = tuple(replace(one, boot_ms=boot_ms) for one in self._watch.judge(readings, holders, at=at))
        self._checked_at = at
        kept = {allocation for allocation in going if self._watch.unclean(cards[allocation])}
        self.waiting = bool(kept)
        return tuple(seen for seen in said if seen.allocation not in kept), health


def cards_of(spec: ContainerSpec) -> frozenset[str]:
    """UUIDs of the cards that a container has, also where it has an instance of one."""
    return frozenset(uuid for uuid, _ in spec.layout_versions) or frozenset(device.uuid for device in spec.devices)
