"""The Docker driver under the contract, on the session's private engine."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from scheduling.nodes.docker import DockerDriver
from scheduling.nodes.driver import ContainerSpec, Device
from tests.contract.kit import Program, home_mount, processes_with, real_command
from tests.docker_engine import TINY, DockerNode, PrivateEngine


class DockerKit:
    def __init__(self, node: DockerNode) -> None:
        self._node = node
        self._seconds = int.from_bytes(os.urandom(4)) + 100_000
        self.device = Device("SIM-under-contract", simulated=True)

    def driver(self) -> DockerDriver:
        driver = self._node.restarted()
        self.device = Device(driver.inventory().gpus[0].uuid, simulated=True)
        return driver

    def marker(self, allocation: str) -> str:
        """A number of seconds to sleep that no other test uses."""
        return f"{self._seconds}.{sum(allocation.encode())}"

    def spec(self, allocation: str, program: Program, **changes: Any) -> ContainerSpec:
        command = real_command(program, self.marker(allocation))
        if program is Program.SERVE:  # the tiny image has no Python
            command = ("sh", "-c", "cd /tmp; echo hello > index.html; exec httpd -f -p $BERTH_PORT")
        plain = ContainerSpec(
            allocation=allocation,
            job=f"job-{allocation}",
            team="red",
            image=TINY,
            command=command,
            mounts=home_mount(allocation),
            port=8888,
        )
        return replace(plain, **changes)

    def home(self, volume: str) -> Path:
        return self._node.data / "volumes" / volume

    def leftovers(self, allocation: str) -> list[str]:
        named = [name for name in self._node.leftovers() if name.endswith(f"-{allocation}")]
        files = [str(path) for path in self._node.data.rglob(f"*{allocation}*") if path.parent.name != "volumes"]
        return named + files + processes_with(self.marker(allocation))


@contextmanager
def docker_kit(engine: PrivateEngine) -> Iterator[DockerKit]:
    with tempfile.TemporaryDirectory(prefix="berth-docker-kit-") as folder:
        node = DockerNode(engine, Path(folder))
        try:
            yield DockerKit(node)
        finally:
            node.clear()
