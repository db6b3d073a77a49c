"""The process driver under the contract: as root with namespaces where the tests run as root, and as anybody else."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from scheduling.nodes.driver import ContainerSpec, Device
from scheduling.nodes.gpus import SimulatedGpus
from scheduling.nodes.process import ProcessDriver
from scheduling.nodes.processes import tree
from tests.contract.kit import Program, home_mount, processes_with, real_command


class ProcessKit:
    """`ordinary`: a driver that believes it was not started by root, so it neither changes user nor hides anything."""

    def __init__(self, data: Path, *, ordinary: bool = False, lab_python: Path = Path(sys.executable)) -> None:
        self.data, self.ordinary, self.lab_python = data, ordinary, lab_python
        self.site = f"test-{data.name}"
        self.gpus = SimulatedGpus(2, site=self.site)
        gpu = self.gpus.inventory()[0]
        self.device = Device(uuid=gpu.uuid, simulated=True)
        self._seconds = int.from_bytes(os.urandom(4)) + 100_000

    def driver(self) -> ProcessDriver:
        who = 1000 if self.ordinary else os.geteuid()
        with mock.patch("scheduling.nodes.process.os.geteuid", return_value=who):
            return ProcessDriver(data=self.data, site=self.site, gpus=self.gpus, lab_python=self.lab_python)

    def marker(self, allocation: str) -> str:
        """A number of seconds to sleep that no other test uses."""
        return f"{self._seconds}.{sum(allocation.encode())}"

    def spec(self, allocation: str, program: Program, **changes: Any) -> ContainerSpec:
        command = real_command(program, self.marker(allocation))
        plain = ContainerSpec(
            allocation,
            job=f"job-{allocation}",
            team="red",
            image="",
            command=command,
            mounts=home_mount(allocation),
            port=8888,
        )
        return replace(plain, **changes)

    def home(self, volume: str) -> Path:
        return self.data / "volumes" / volume

    def leftovers(self, allocation: str) -> list[str]:
        marked = [str(process) for process in tree.processes_of(self.site).get(allocation, [])]
        files = [str(path) for path in self.data.rglob(f"*{allocation}*") if path.parent.name != "volumes"]
        return marked + files + processes_with(self.marker(allocation))


@contextmanager
def process_kit(*, ordinary: bool = False) -> Iterator[ProcessKit]:
    data = Path(tempfile.mkdtemp(prefix="berth-process-"))
    kit = ProcessKit(data, ordinary=ordinary)
    try:
        yield kit
    finally:
        driver = kit.driver()
        for seen in driver.observe():
            driver.stop(seen.allocation, grace_s=0)
        shutil.rmtree(data)
