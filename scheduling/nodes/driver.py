"""The one protocol behind which Docker, processes and simulations look alike.

Every verb is idempotent and keyed by the allocation id, which the driver keeps *with the thing it starts* (a container
label, a variable in the process's environment), so that a driver that was just restarted finds everything again.
Shapes only: no Django, no core; `scheduling/desired.py` and `scheduling/observed.py` translate.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Phase(StrEnum):
    """How far one allocation's container has come, as seen on the node."""

    PULLING = "pulling"  # the image is on its way; Observation.progress tells how far
    STARTING = "starting"  # the container exists; its server does not answer yet
    READY = "ready"  # the server answers at Observation.address
    EXITED = "exited"  # its main process ended; the container is still there to be read
    REFUSED = "refused"  # it never started and never will; Observation.message says why
    GONE = "gone"  # nothing of it is left on this node: the slots may be freed


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU or MIG instance handed to a container, always by UUID."""

    uuid: str
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """A granted volume. `volume` is a name below the node's volume root, never a host path."""

    volume: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything a node needs to run one part of a job. Plain data: it crosses the exchange as JSON."""

    allocation: str  # id, the idempotency key
    job: str
    team: str  # slug: names the network bridge
    image: str  # reference as asked, e.g. "berth/lab:latest"
    command: tuple[str, ...] = ()  # empty: the image's own
    env: tuple[tuple[str, str], ...] = ()
    devices: tuple[Device, ...] = ()
    layout_versions: tuple[tuple[str, int], ...] = ()  # (gpu uuid, version) the placement was made for
    cpu_millis: int = 1000
    memory_mib: int = 1024
    shm_mib: int = 64
    pids: int = 4096
    uid: int = 20000
    gid: int = 20000
    user: str = "berth"  # login name shown inside
    home: str = "/home/berth"  # $HOME inside; a Mount covers it
    mounts: tuple[Mount, ...] = ()
    port: int = 0  # where its server listens; 0: it serves nothing
    probe_path: str = "/"  # answers below 500 once it is ready
    grace_s: int = 10  # between SIGTERM and SIGKILL
    replica: int = 0  # which of the job's replicas it is
    peers: tuple[str, ...] = ()  # the node of each replica, in order; empty for a job of one
    egress: str = "open"  # "none" | "open"; the allow list comes with the policies


def addresses_of(spec: ContainerSpec, *, here: Callable[[int], str]) -> dict[str, str]:
    """The variable in which a gang's replica finds the others; `here` names one on the same machine. Empty where there
    is no way: replicas on different machines cannot reach each other."""
    if not spec.peers:
        return {}
    mine = spec.peers[spec.replica]
    names = [here(replica) if node == mine else "" for replica, node in enumerate(spec.peers)]
    return {"BERTH_REPLICA_ADDRESSES": ",".join(names), "BERTH_REPLICA_NODES": ",".join(spec.peers)}


@dataclass(frozen=True, slots=True)
class Observation:
    """What a node sees of one allocation at one moment."""

    allocation: str
    phase: Phase
    address: tuple[str, int] | None = None  # where the agent can dial the server
    exit_code: int | None = None
    code: str = ""  # stable cause for REFUSED or EXITED, e.g. "image-missing", "oom-killed"
    message: str = ""  # one sentence for the person
    log_tail: str = ""  # last lines, for EXITED
    progress: tuple[int, int] | None = None  # bytes done, bytes in all (0: unknown), while PULLING
    image_digest: str = ""
    started: bool = True  # False: it is being made, or was made and its process never began


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """One GPU as inventoried. None means that the card does not say, which is not the same as zero."""

    uuid: str
    index: int
    model: str
    memory_mib: int | None
    simulated: bool = False
    mig_enabled: bool | None = None
    pci_bus_id: str | None = None
    mig_devices: tuple[str, ...] = ()  # UUIDs of the instances it is cut into now
    numa_node: int | None = None
    #: (PCI bus id of the other end, links to it); None: the card does not say, (): it has no link
    nvlinks: tuple[tuple[str, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class InfinibandPort:
    """One port below /sys/class/infiniband. `rate`: as the kernel words it, e.g. "400 Gb/sec (4X NDR)"."""

    device: str  # e.g. "mlx5_0"
    port: int
    state: str  # "ACTIVE", "DOWN", …
    link_layer: str  # "InfiniBand" or "Ethernet"
    rate: str = ""
    numa_node: int | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the machine has. cpu_millis: thousandths of a core."""

    cpu_millis: int
    memory_mib: int
    gpus: tuple[GpuInfo, ...] = ()
    boot_id: str = ""
    driver: str = ""  # "docker", "process", "simulated"
    notes: tuple[str, ...] = ()  # plain sentences about what this node cannot do, shown on its page
    images: tuple[str, ...] = ()  # image references already on the node
    # What the machine says of itself beyond what a driver needs; empty or None: it does not say.
    driver_version: str = ""  # of the NVIDIA kernel driver
    engine: str = ""  # e.g. "Docker 27.3.1"
    runtimes: tuple[str, ...] = ()  # of the engine, e.g. "nvidia"
    cgroup_driver: str = ""  # of the engine: "systemd" or "cgroupfs"
    disk_mib: int | None = None  # of the file system with the volumes
    disk_free_mib: int | None = None
    infiniband: tuple[InfinibandPort, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()  # as Node Feature Discovery names them
    agent: str = ""  # its version


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of one GPU. None: not supported by the card (shown as unknown, never as zero)."""

    gpu_uuid: str
    utilization_pct: int | None = None
    memory_used_mib: int | None = None
    power_w: float | None = None
    temperature_c: int | None = None
    processes: tuple[tuple[int, int | None], ...] = field(default=())  # (host pid, used MiB)


class DriverError(Exception):
    """Base of the three errors that may leave a driver. Nothing else escapes one."""

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)


class NodeUnreachable(DriverError):
    """The engine does not answer; try again, the node counts as lost if it lasts."""


class LaunchRefused(DriverError):
    """The job's own fault or a lasting obstacle: it ends with this reason."""


class NotYetGone(DriverError):
    """Something is still there after a stop; ask again."""


ProgressSink = Callable[[int, int], None]


class Driver(Protocol):
    """Six verbs. Each may be called again at any time, in any order, from several threads."""

    name: str

    def inventory(self) -> Inventory:
        """What this machine has now. Cheap enough to call every minute."""

    def launch(self, spec: ContainerSpec, *, progress: ProgressSink) -> None:
        """Make the container exist and run; returns once its process is started.

        Already running: does nothing. Created but not started (we died in between): starts it. Blocks while the image
        is pulled and calls `progress(done_bytes, total_bytes)`. Raises LaunchRefused after removing whatever it had
        made, NodeUnreachable when the engine is away.
        """

    def stop(self, allocation: str, *, grace_s: int) -> None:
        """SIGTERM, SIGKILL after `grace_s`, then remove every trace but the volumes.

        Not there: does nothing. A launch still in progress: it is abandoned. Raises NotYetGone while something is left.
        """

    def observe(self) -> Sequence[Observation]:
        """Every allocation this driver has anything of: STARTING with its address, or EXITED. Never READY: readiness is
        the agent's probe. What is absent here is gone. Raises NodeUnreachable rather than returning an empty list
        when it cannot see."""

    def sample(self) -> Sequence[Sample]:
        """One reading per GPU of the inventory."""

    def logs(self, allocation: str, *, tail: int) -> Iterator[bytes]:
        """The last `tail` lines so far, oldest first. Unknown allocation: nothing."""

    def close(self) -> None:
        """Let go of connections and threads; containers stay as they are."""
