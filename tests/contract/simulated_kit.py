"""The simulated driver under the contract: what programs do elsewhere are injected faults here."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from scheduling.nodes.driver import ContainerSpec, Device, Inventory
from scheduling.nodes.gpus import SimulatedGpus
from scheduling.nodes.simulated import Faults, SimulatedDriver, SimulatedMachine
from tests.contract.kit import Program, home_mount

ACTS_AS = {
    Program.SLEEP: Faults(),
    Program.SERVE: Faults(),
    Program.EXIT: Faults(exit_after_s=0, exit_code=3, says=("goodbye",)),
    Program.STUBBORN: Faults(ignores_term=True, says=("ready",)),
    Program.DAEMON: Faults(says=("ready",)),
    Program.CHATTY: Faults(says=tuple(f"line {number}" for number in range(1, 51))),
    Program.WRITE_HOME: Faults(says=("ready",)),
    Program.MISSING: Faults(refuse=("command-missing", "The simulated program does not exist.")),
}


class SimulatedKit:
    def __init__(self) -> None:
        gpus = SimulatedGpus(2, site="contract").inventory()
        self.inventory = Inventory(cpu_millis=8000, memory_mib=32768, gpus=gpus, boot_id="one", driver="simulated")
        self.device = Device(uuid=gpus[0].uuid, simulated=True)
        self.machine = SimulatedMachine()
        self._faults: dict[str, Faults] = {}
        self._drivers: list[SimulatedDriver] = []

    def driver(self) -> SimulatedDriver:
        driver = SimulatedDriver(inventory=self.inventory, machine=self.machine, serve=True)
        self._drivers.append(driver)
        for allocation, faults in self._faults.items():
            driver.inject(faults, allocation=allocation)
        return driver

    def spec(self, allocation: str, program: Program, **changes: Any) -> ContainerSpec:
        plain = ContainerSpec(
            allocation, job=f"job-{allocation}", team="red", image="simulated", mounts=home_mount(allocation), port=8888
        )
        spec = replace(plain, **changes)
        faults = ACTS_AS.get(program, Faults(says=(*_environment(spec), "ready")))
        self._faults[allocation] = faults
        for driver in self._drivers:
            driver.inject(faults, allocation=allocation)
        return spec

    def home(self, volume: str) -> Path | None:
        return None

    def leftovers(self, allocation: str) -> list[str]:
        return [allocation] if allocation in self.machine.containers else []


def _environment(spec: ContainerSpec) -> tuple[str, ...]:
    """What a real driver would hand over: the simulated one runs nothing that could read it."""
    given = {**dict(spec.env), "BERTH_ALLOCATION": spec.allocation, "BERTH_JOB": spec.job, "HOME": spec.home}
    return tuple(f"{name}={value}" for name, value in given.items())


@contextmanager
def simulated_kit() -> Iterator[SimulatedKit]:
    kit = SimulatedKit()
    yield kit
    driver = kit.driver()
    for seen in driver.observe():
        driver.stop(seen.allocation, grace_s=0)
