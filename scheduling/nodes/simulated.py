"""A node that does not exist, behind the same protocol: for tests, the simulator and trying out what goes wrong.

Deterministic: time comes from `portal.kernel.clock`, nothing is random, and faults happen exactly as injected.
Everything it shows says that it is simulated.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import RLock, Thread

from portal.kernel import clock
from scheduling.nodes.driver import (
    ContainerSpec,
    Inventory,
    LaunchRefused,
    NodeUnreachable,
    NotYetGone,
    Observation,
    Phase,
    ProgressSink,
    Sample,
)
from scheduling.nodes.gpus import SimulatedLoad, simulated_reading
from scheduling.nodes.health import Process, Reading
from scheduling.nodes.simulated_health import SimulatedHealth

PULL_BYTES = 1_000_000_000  # what a simulated image weighs
STEP_S = 0.005  # between two looks at the clock
NOWHERE = "simulated.invalid"  # the address of what serves nothing; .invalid can never be reached


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, for one allocation or for all. The default is a container that starts at once and stays."""

    pull_s: float = 0  # the image takes so long, with progress
    refuse: tuple[str, str] | None = None  # launch ends in LaunchRefused(code, message)
    ready_after_s: float = 0  # its server answers 503 so long
    never_ready: bool = False  # ... for ever
    exit_after_s: float | None = None  # its program ends by itself
    exit_code: int = 0
    ignores_term: bool = False  # it ends only when killed, after all the grace
    never_gone: bool = False  # not even then: each stop ends in NotYetGone
    hidden: bool = False  # a lie: observed as gone although it is there
    haunting: bool = False  # a lie: observed as running although it is gone
    away_for_s: float = 0  # the engine does not answer so long, counted from the injection
    says: tuple[str, ...] = ()  # lines of its log
    gpu_use: tuple[int, int] = (0, 0)  # what its process does to each of its GPUs: (%, MiB)


@dataclass(slots=True)
class Container:
    spec: ContainerSpec
    faults: Faults
    number: int  # stands in for a pid
    started_at: float  # monotonic
    server: ThreadingHTTPServer | None = None
    gone: bool = False  # only haunting ones are kept

    def has_exited(self) -> bool:
        after = self.faults.exit_after_s
        return after is not None and clock.monotonic() >= self.started_at + after


@dataclass(slots=True)
class SimulatedMachine:
    """What outlives a driver: give the same machine to a second driver, and it is the first one restarted."""

    containers: dict[str, Container] = field(default_factory=dict)
    launching: set[str] = field(default_factory=set)
    abandoned: set[str] = field(default_factory=set)
    started: int = 0
    #: what is wrong with its GPUs
    health: SimulatedHealth = field(default_factory=SimulatedHealth)
    lock: RLock = field(default_factory=RLock)


class SimulatedDriver:
    """`serve`: each container answers HTTP on 127.0.0.1 for real, so that probes and gateways reach something."""

    name = "simulated"

    def __init__(
        self,
        *,
        inventory: Inventory,
        faults: Faults | None = None,
        machine: SimulatedMachine | None = None,
        serve: bool = False,
    ) -> None:
        self._inventory = inventory
        self._machine = machine or SimulatedMachine()
        self._serve = serve
        self._faults: dict[str, Faults] = {}
        self._away_until = float("-inf")
        self.inject(faults or Faults())

    def inject(self, faults: Faults, *, allocation: str = "") -> None:
        """From now on these happen: to one allocation, or to all that have none of their own."""
        self._faults[allocation] = faults
        if faults.away_for_s:
            self._away_until = clock.monotonic() + faults.away_for_s
        with self._machine.lock:
            for container in self._machine.containers.values():
                container.faults = self._faults_of(container.spec.allocation)

    def _faults_of(self, allocation: str) -> Faults:
        return self._faults.get(allocation, self._faults[""])

    def _answer_or_be_away(self) -> None:
        if clock.monotonic() < self._away_until:
            raise NodeUnreachable("engine-away", "The simulated engine does not answer.")

    # -- the six verbs --------------------------------------------------------------------------------------------
    def inventory(self) -> Inventory:
        self._answer_or_be_away()
        return self._inventory

    def launch(self, spec: ContainerSpec, *, progress: ProgressSink) -> None:
        self._answer_or_be_away()
        machine, key = self._machine, spec.allocation
        with machine.lock:
            if key in machine.containers or key in machine.launching:
                return
            machine.launching.add(key)
            machine.abandoned.discard(key)
        try:
            faults = self._faults_of(key)
            self._pull(key, faults.pull_s, progress)
            if faults.refuse:
                raise LaunchRefused(*faults.refuse)
            self._start(spec, faults)
        finally:
            with machine.lock:
                machine.launching.discard(key)

    def stop(self, allocation: str, *, grace_s: int) -> None:
        self._answer_or_be_away()
        machine = self._machine
        with machine.lock:
            container = machine.containers.get(allocation)
            if allocation in machine.launching:
                machine.abandoned.add(allocation)
        if container is None:
            return
        if container.faults.ignores_term and not container.has_exited():
            until = clock.monotonic() + grace_s
            while clock.monotonic() < until:
                time.sleep(STEP_S)
        if container.faults.never_gone:
            raise NotYetGone("still-there", "The simulated container does not go away.")
        with machine.lock:
            for device in container.spec.devices if not container.gone else ():
                machine.health.left(device.uuid, _process(container))
            container.gone = True
            if not container.faults.haunting:
                machine.containers.pop(allocation, None)
        if container.server:
            container.server.shutdown()
            container.server.server_close()
            container.server = None

    def observe(self) -> Sequence[Observation]:
        self._answer_or_be_away()
        with self._machine.lock:
            there = [container for _key, container in sorted(self._machine.containers.items())]
        for container in there:
            if container.gone and not container.faults.haunting:  # the lie was taken back
                with self._machine.lock:
                    self._machine.containers.pop(container.spec.allocation, None)
        return [
            _observation(container)
            for container in there
            if not container.faults.hidden and (container.faults.haunting or not container.gone)
        ]

    def sample(self) -> Sequence[Sample]:
        self._answer_or_be_away()
        with self._machine.lock:
            running = [c for c in self._machine.containers.values() if not c.gone and not c.has_exited()]
        loads = [
            SimulatedLoad(gpu_uuid=device.uuid, pid=c.number, utilization_pct=percent, memory_mib=mib)
            for c in sorted(running, key=lambda c: c.number)
            for device in c.spec.devices
            for percent, mib in [c.faults.gpu_use]
        ]
        return [simulated_reading(gpu, loads) for gpu in self._inventory.gpus]

    def gpu_health(self) -> tuple[Reading, ...] | None:
        """As `WatchesGpus` says."""
        self._answer_or_be_away()
        with self._machine.lock:
            there = [c for _key, c in sorted(self._machine.containers.items()) if not c.gone and not c.has_exited()]
            running = [(device.uuid, _process(c)) for c in there for device in c.spec.devices if c.faults.gpu_use[1]]
            return self._machine.health.readings(self._inventory.gpus, running)

    def logs(self, allocation: str, *, tail: int) -> Iterator[bytes]:
        self._answer_or_be_away()
        container = self._machine.containers.get(allocation)
        lines = _log(container) if container and not container.gone else []
        return iter([f"{line}\n".encode() for line in lines[-tail:]] if tail > 0 else [])

    def close(self) -> None:
        """Its containers belong to the machine and stay."""

    # -- inside a launch ------------------------------------------------------------------------------------------
    def _pull(self, key: str, seconds: float, progress: ProgressSink) -> None:
        begin = clock.monotonic()
        while seconds and (passed := clock.monotonic() - begin) < seconds:
            if key in self._machine.abandoned:
                return
            self._answer_or_be_away()
            progress(int(PULL_BYTES * passed / seconds), PULL_BYTES)
            time.sleep(STEP_S)
        if seconds:
            progress(PULL_BYTES, PULL_BYTES)

    def _start(self, spec: ContainerSpec, faults: Faults) -> None:
        machine = self._machine
        with machine.lock:
            if spec.allocation in machine.abandoned:
                machine.abandoned.discard(spec.allocation)
                return
            machine.started += 1
            container = Container(spec, faults, number=machine.started, started_at=clock.monotonic())
            if self._serve:
                container.server = _server_of(container)
            machine.containers[spec.allocation] = container


def _process(container: Container) -> Process:
    return Process(container.number, container.faults.gpu_use[1], "simulated", container.spec.allocation)


def _observation(container: Container) -> Observation:
    key, faults = container.spec.allocation, container.faults
    if container.has_exited() and not container.gone:
        return Observation(
            key,
            Phase.EXITED,
            exit_code=faults.exit_code,
            code="exited",
            message=f"Its simulated program ended with exit code {faults.exit_code}.",
            log_tail="\n".join(_log(container)),
        )
    address = (NOWHERE, container.spec.port)
    if container.server:
        address = ("127.0.0.1", container.server.server_port)
    return Observation(key, Phase.STARTING, address=address)


def _log(container: Container) -> list[str]:
    devices = " ".join(device.uuid for device in container.spec.devices) or "no GPU"
    return [f"simulated container of {container.spec.allocation} with {devices}", *container.faults.says]


def _server_of(container: Container) -> ThreadingHTTPServer:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            faults = container.faults
            early = clock.monotonic() < container.started_at + faults.ready_after_s
            self.send_response(503 if early or faults.never_ready or container.has_exited() else 200)
            with contextlib.suppress(ConnectionError):  # a probe hangs up once it has read the status
                self.end_headers()
                self.wfile.write(b"simulated\n")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing on the portal's stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="simulated-server", daemon=True).start()
    return server
