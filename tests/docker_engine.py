"""A Docker Engine of our own: its data, socket and pid file in a folder that goes when the test session ends.

A machine's own engine is never touched. Containers that a test leaves behind end with the engine.
"""

import dataclasses
import io
import os
import secrets
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import docker
import pytest
import requests

from deploy.image.build import build
from scheduling.nodes.docker import DockerDriver
from scheduling.nodes.driver import ContainerSpec, Mount, Observation, Phase
from scheduling.nodes.gpus import SimulatedGpus
from tests.docker_site import remove_site
from tests.services import wait_for

TINY = "tiny:latest"
#: NVIDIA's hook finds the ids it is to hand over in this variable; a stub in its place makes an engine accept GPU requests
HOOK = "nvidia-container-runtime-hook"


class EngineEnded(AssertionError):
    """dockerd ended while it was starting; the end of its log follows."""


class PrivateEngine:
    """dockerd under our control: it can be stopped, killed and started again on the same data."""

    def __init__(
        self, folder: Path, *, with_gpu_hook: bool = False, options: Sequence[str] = (), enter: Sequence[str] = ()
    ) -> None:
        """enter: what dockerd is started through, such as `nsenter` into a network namespace."""
        self._folder = folder
        self._options = options
        self._enter = tuple(enter)
        self._path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        if with_gpu_hook:
            stub = folder / "bin" / HOOK
            stub.parent.mkdir()
            stub.write_text("#!/bin/sh\nexit 0\n")
            stub.chmod(0o755)
            self._path = f"{stub.parent}:{self._path}"
        self.url = f"unix://{folder}/docker.sock"
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Another engine that starts at the same moment rewrites the same chains of the firewall, and then one of them
        gives up: that one is started once more."""
        try:
            self._start()
        except EngineEnded as ended:
            if "iptables" not in str(ended):
                raise
            self._start()

    def _start(self) -> None:
        program = shutil.which("dockerd", path=self._path)
        assert program, "Docker is not installed: run tests/prepare.py as root"
        folder = self._folder
        with (folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [
                    *(*self._enter, program, "--data-root", folder / "data", "--exec-root", folder / "exec"),
                    *("--pidfile", folder / "pid", "--host", self.url),
                    *("--bridge", "none", "--default-ulimit", "nofile=1024:4096", *self._options),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": self._path},
                start_new_session=True,
            )
        until = time.monotonic() + 60
        while not self._answers():
            if self._server.poll() is not None:
                raise EngineEnded(f"dockerd ended: {(folder / 'log').read_text()[-2000:]}")
            assert time.monotonic() < until, f"dockerd does not answer: {(folder / 'log').read_text()[-2000:]}"
            time.sleep(0.1)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._server is not None:
            self._server.send_signal(number)
            try:
                self._server.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None
            # Killed, it leaves its containerd's pid behind; where nobody reaps orphans that pid still looks alive.
            (self._folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The engine takes connections but says nothing, as one whose disk hangs."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._server.send_signal(signal.SIGCONT)

    def client(self) -> docker.APIClient:
        return docker.APIClient(base_url=self.url, version="auto", timeout=60)

    def clear(self) -> None:
        """Remove all containers and networks, so that the next test finds nothing of the last one."""
        client = self.client()
        for container in client.containers(all=True):
            client.remove_container(container["Id"], force=True, v=True)
        for network in client.networks(filters={"type": "custom"}):
            client.remove_network(network["Id"])
        client.close()

    def _answers(self) -> bool:
        try:
            client = self.client()
            client.ping()
            client.close()
        except (docker.errors.DockerException, requests.RequestException):
            return False
        return True


@contextmanager
def private_engine(
    *,
    with_gpu_hook: bool = False,
    disk_mib: int = 4096,
    options: Sequence[str] = (),
    enter: Sequence[str] = (),
    within: Path | None = None,
) -> Iterator[PrivateEngine]:
    """`disk_mib`: its images and containers get a disk of that size in memory; 0: the machine's own disk.

    To delete the 27,000 files of berth/lab from a disk takes half a minute, to unmount them no time. `within`: the
    folder in which it makes its own.
    """
    folder = Path(tempfile.mkdtemp(prefix="berth-docker-" if within is None else "engine-", dir=within))
    engine = PrivateEngine(folder, with_gpu_hook=with_gpu_hook, options=options, enter=enter)
    try:
        if disk_mib:
            (folder / "data").mkdir()
            size = f"size={disk_mib}m,mode=0711"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder / "data"], check=True)
        engine.start()
        yield engine
        engine.clear()
    finally:
        engine.stop()
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in sorted((place for place in mounted if place.startswith(f"{folder}/")), reverse=True):
            subprocess.run(["umount", "-l", place], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def docker_engine() -> Iterator[str]:
    """An engine with the tiny image; yields its URL."""
    with private_engine() as engine:
        make_tiny_image(engine.client())
        yield engine.url


class DockerNode:
    """A Docker driver on the private engine, with a data folder of its own, and a way to look into its containers."""

    def __init__(self, engine: PrivateEngine, data: Path, *, site: str = "") -> None:
        self.engine, self.data, self.site = engine, data, site or secrets.token_hex(8)
        self.client = engine.client()
        self.driver = self.restarted()

    def restarted(self, **options: Any) -> DockerDriver:
        """A driver that remembers nothing, as after kill -9 of the portal."""
        gpus = SimulatedGpus(2, site=self.site)
        return DockerDriver(base_url=self.engine.url, data=self.data, site=self.site, gpus=gpus, **options)

    def spec(self, allocation: str, script: str = "exec sleep 1000", **changes: Any) -> ContainerSpec:
        """One that runs a shell script on the tiny image, as alice of team red."""
        plain = ContainerSpec(
            allocation=allocation,
            job=f"job-{allocation}",
            team="red",
            image=TINY,
            command=("sh", "-c", script),
            port=8888,
            memory_mib=64,
            user="alice",
            home="/home/alice",
            mounts=(Mount("home-alice", "/home/alice"),),
        )
        return dataclasses.replace(plain, **changes)

    def run(self, allocation: str, script: str = "exec sleep 1000", **changes: Any) -> ContainerSpec:
        spec = self.spec(allocation, script, **changes)
        self.driver.launch(spec, progress=lambda done, total: None)
        return spec

    def see(self, allocation: str) -> Observation | None:
        return next((seen for seen in self.driver.observe() if seen.allocation == allocation), None)

    def until_exited(self, allocation: str) -> Observation:
        def ended() -> Observation | None:
            seen = self.see(allocation)
            return seen if seen and seen.phase == Phase.EXITED else None

        return cast(Observation, wait_for(ended, seconds=30, what=f"{allocation} to end"))

    def address(self, allocation: str) -> str:
        seen = self.see(allocation)
        assert seen is not None
        assert seen.address is not None
        return seen.address[0]

    def inspect(self, allocation: str) -> dict[str, Any]:
        found = self.client.containers(all=True, filters={"label": f"berth.allocation={allocation}"})
        answer: dict[str, Any] = self.client.inspect_container(found[0]["Id"])
        return answer

    def inside(self, allocation: str, script: str) -> tuple[int, str]:
        """Run a script in the container as its user; exit code and what it printed."""
        made = self.client.exec_create(self.inspect(allocation)["Id"], ["sh", "-c", script])
        output = self.client.exec_start(made["Id"])
        return self.client.exec_inspect(made["Id"])["ExitCode"], output.decode(errors="replace")

    def leftovers(self) -> list[str]:
        """Containers of this site, running or not."""
        found = self.client.containers(all=True, filters={"label": f"berth.site={self.site}"})
        return [name for container in found for name in container["Names"]]

    def clear(self) -> None:
        self.driver.close()
        remove_site(url=self.engine.url, data=self.data, site=self.site)
        self.client.close()


@pytest.fixture(scope="session")
def engine() -> Iterator[PrivateEngine]:
    with private_engine() as started:
        make_tiny_image(started.client())
        yield started


@pytest.fixture
def docker_node(engine: PrivateEngine, tmp_path: Path) -> Iterator[DockerNode]:
    node = DockerNode(engine, tmp_path / "data")
    yield node
    node.clear()


@pytest.fixture(scope="session")
def lab_image(engine: PrivateEngine) -> str:
    """berth/lab on the private engine, as `make image` makes it."""
    return build(base_url=engine.url)


def make_tiny_image(client: docker.APIClient, name: str = TINY, *, user: str = "") -> None:
    """An image of one file, Debian's static busybox under all its names. Made in a second."""
    changes = ["ENV PATH=/bin", 'CMD ["sh", "-c", "echo tiny; exec sleep 1000"]', *([f"USER {user}"] if user else [])]
    client.import_image_from_data(tiny_root(), repository=name.rpartition(":")[0], tag=name.rpartition(":")[2],
                                  changes=changes)  # fmt: skip


def tiny_root() -> bytes:
    busybox = shutil.which("busybox")
    assert busybox, "busybox is not installed: run tests/prepare.py as root"
    names = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("home", 0o755), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox")
        for name in names:
            if name != "busybox":
                entry = tarfile.TarInfo(f"bin/{name}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
        for path, mode in (("root/only-root", 0o700), ("etc/passwd", 0o644), ("etc/group", 0o644)):
            content = b"#!/bin/sh\necho root only\n" if mode == 0o700 else b""
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()
