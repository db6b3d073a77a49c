"""A node moved by hand: the test says what the machine shows, through the same exchange that an agent uses."""

from dataclasses import replace
from datetime import timedelta

import pytest

from portal.kernel import clock
from scheduling import observed, wiring
from scheduling.nodes.driver import GpuInfo, Inventory, Observation, Phase
from scheduling.nodes.exchange import Desired, DesiredPart, Report
from scheduling.tick import Cycle, tick

MACHINE = Inventory(
    cpu_millis=4000,
    memory_mib=16 * 1024,
    gpus=tuple(
        GpuInfo(uuid=f"SIM-{i}", index=i, model="Simulated GPU", memory_mib=81920, simulated=True) for i in range(2)
    ),
    boot_id="boot-1",
    driver="docker",
    images=("berth/lab:latest",),
)


class HandNode:
    """`hints` and `wakes` count what the control plane asked for."""

    def __init__(self, inventory: Inventory = MACHINE, name: str = "local") -> None:
        self.name = name
        self.inventory = inventory
        self.hints = 0
        self.wakes = 0
        wiring.use(replace(wiring.wired(), hint_tick=self._hint, wake_node=self._wake))
        self.report(inventory=inventory)

    def _hint(self) -> None:
        self.hints += 1

    def _wake(self, name: str) -> None:
        self.wakes += 1

    def report(self, *observations: Observation, inventory: Inventory | None = None, trouble: str = "") -> Desired:
        report = Report(
            node=self.name, boot_id="boot-1", observations=observations, inventory=inventory, trouble=trouble
        )
        return observed.exchange(report, now=clock.now())

    def desired(self) -> list[DesiredPart]:
        return list(self.report().parts)

    def say(self, phase: Phase, **facts: object) -> None:
        """The same of every container that is desired here."""
        self.report(*[Observation(part.spec.allocation, phase, **facts) for part in self.desired()])  # type: ignore[arg-type]

    def tick(self) -> Cycle:
        return tick()

    def start_everything(self) -> None:
        """Place what fits, and let all of it become ready."""
        self.tick()
        self.say(Phase.STARTING, address=("127.0.0.1", 1))
        self.say(Phase.READY, address=("127.0.0.1", 1))

    def advance(self, manual_clock: clock.ManualClock, **step: float) -> None:
        """Let time pass; the node goes on reporting."""
        manual_clock.advance(timedelta(**step))
        self.report()


@pytest.fixture
def node(db: None, manual_clock: clock.ManualClock):
    before = wiring.wired()
    yield HandNode()
    wiring.use(before)
