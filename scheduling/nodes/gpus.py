"""The GPUs of this machine: read through NVML where a card answers, visibly simulated where none does.

NVML refuses single questions on many cards (`NVMLError_NotSupported`). What a card does not say is None all the way to
the page, where it reads "unknown": never zero, which would be a measurement, and never an error.
"""

import importlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

from scheduling.nodes.driver import GpuInfo, Sample
from scheduling.nodes.health import Process, Reading
from scheduling.nodes.nvml_health import XidEvents, read_card
from scheduling.nodes.simulated_health import SimulatedHealth

MIB = 1024 * 1024
SIMULATED_MODEL = "Simulated GPU"
SIMULATED_MEMORY_MIB = 80 * 1024
_MOST_NVLINKS = 18  # NVML_NVLINK_MAX_LINKS of an H100; a card refuses the numbers that it lacks
_SIMULATED_NAMES = uuid.UUID("6f0f8a0e-6a9b-5c51-9a39-6b3f0d5c7d10")  # namespace of the made-up UUIDs, never change it

NO_DRIVER = "This machine has no NVIDIA driver."
NO_LIBRARY = "Berth cannot ask for NVIDIA GPUs: the Python package nvidia-ml-py is missing; run `make up` again."
NO_CARD = "The NVIDIA driver works but shows no GPU."
SIMULATED_ONE = "Its GPU is simulated: programs cannot compute on it."
SIMULATED_ONES = "Its {n} GPUs are simulated: programs cannot compute on them."
MIG_ON = "GPU {index} ({uuid}) is in MIG mode: it cannot be given to anybody whole."


class GpuSource(Protocol):
    """Where a driver learns of the machine's GPUs. Every method may be called from any thread, and none raises."""

    def inventory(self) -> tuple[GpuInfo, ...]:
        """The GPUs there are now, by index."""

    def sample(self) -> tuple[Sample, ...]:
        """One reading of each of them."""

    def health(self) -> tuple[Reading, ...] | None:
        """The health of each card that answers, its processes without their allocations; None where NVML is broken."""

    def driver_version(self) -> str:
        """Of the kernel driver; empty where there is none or it does not say."""

    def notes(self) -> tuple[str, ...]:
        """Plain sentences about what is wrong or made up here; empty when all is as it seems."""


def detect(*, simulated: int, site: str) -> GpuSource:
    """The real cards if one answers, else `simulated` made-up ones that say why they are there."""
    real = NvmlGpus()
    if real.inventory():
        return real
    return SimulatedGpus(simulated, site=site, because=real.notes())


class NvmlGpus:
    """The NVIDIA cards of this machine. `nvml` is the module `pynvml`, or a stand-in for it."""

    def __init__(self, nvml: Any = None) -> None:
        self._lock = Lock()
        self._started = False
        self._trouble = ""
        if nvml is None:
            try:
                nvml = importlib.import_module("pynvml")
            except ImportError:
                self._trouble = NO_LIBRARY
        self._nvml: Any = nvml
        self._xids = XidEvents(nvml)

    def inventory(self) -> tuple[GpuInfo, ...]:
        return tuple(info for index, card in self._cards() if (info := self._info(index, card)))

    def sample(self) -> tuple[Sample, ...]:
        return tuple(sample for _, card in self._cards() if (sample := self._reading(card)))

    def health(self) -> tuple[Reading, ...] | None:
        handles = self._cards()
        if not handles and not self._started:
            return None
        cards = [(_text(name), card) for _, card in handles if (name := self._ask("nvmlDeviceGetUUID", card))]
        with self._lock:
            self._xids.collect(cards)
        return tuple(read_card(self._ask, self._nvml, card, uuid, self._xids.of(uuid)) for uuid, card in cards)

    def driver_version(self) -> str:
        return _text(self._ask("nvmlSystemGetDriverVersion") or "") if self._started else ""

    def notes(self) -> tuple[str, ...]:
        in_mig_mode = [MIG_ON.format(index=gpu.index, uuid=gpu.uuid) for gpu in self.inventory() if gpu.mig_enabled]
        return (*([self._trouble] if self._trouble else []), *in_mig_mode)

    def _cards(self) -> list[tuple[int, Any]]:
        """(index, handle) of every card that answers. Starts NVML again if the driver was restarted under us."""
        if self._nvml is None:
            return []
        with self._lock:
            count = self._count()
            if count is None:
                return []
            cards: list[tuple[int, Any]] = []
            lost: list[str] = []
            for index in range(count):
                try:
                    cards.append((index, self._nvml.nvmlDeviceGetHandleByIndex(index)))
                except self._nvml.NVMLError as error:
                    lost.append(f"GPU {index} does not answer ({error}); look at `nvidia-smi` and the kernel's log.")
            self._trouble = " ".join(lost) or ("" if count else NO_CARD)
            return cards

    def _count(self) -> int | None:
        for _attempt in ("as it is", "after a fresh start"):
            try:
                if not self._started:
                    self._nvml.nvmlInit()
                    self._started = True
                    self._xids.restart()
                return int(self._nvml.nvmlDeviceGetCount())
            except self._nvml.NVMLError_LibraryNotFound:
                self._trouble = NO_DRIVER
                return None
            except self._nvml.NVMLError as error:
                fresh_failed = not self._started
                self._started = False
                self._trouble = (
                    f"The NVIDIA driver of this machine is broken ({error}); see what `nvidia-smi` says. After a driver"
                    " update the machine has to be restarted."
                )
                if fresh_failed:
                    return None
        return None

    def _ask(self, question: str, *args: object) -> Any:
        """One field of one card, or None if the card (or an old driver) does not answer this question."""
        try:
            return getattr(self._nvml, question)(*args)
        except (self._nvml.NVMLError, AttributeError):
            return None

    def _info(self, index: int, card: Any) -> GpuInfo | None:
        name = self._ask("nvmlDeviceGetUUID", card)
        if name is None:
            return None  # without a UUID it can be neither given to anybody nor told from its neighbours
        memory = self._ask("nvmlDeviceGetMemoryInfo", card)
        mig = self._ask("nvmlDeviceGetMigMode", card)  # [now, after the next reset]
        pci = self._ask("nvmlDeviceGetPciInfo", card)
        return GpuInfo(
            uuid=_text(name),
            index=index,
            model=_text(self._ask("nvmlDeviceGetName", card) or "NVIDIA GPU"),
            memory_mib=None if memory is None else int(memory.total) // MIB,
            mig_enabled=None if mig is None else bool(mig[0]),
            pci_bus_id=None if pci is None else _text(pci.busId),
            mig_devices=tuple(self._mig_devices(card)) if mig is not None and mig[0] else (),
            nvlinks=self._nvlinks(card),
        )

    def _mig_devices(self, card: Any) -> Iterator[str]:
        for number in range(int(self._ask("nvmlDeviceGetMaxMigDeviceCount", card) or 0)):
            instance = self._ask("nvmlDeviceGetMigDeviceHandleByIndex", card, number)  # refused for a free place
            name = None if instance is None else self._ask("nvmlDeviceGetUUID", instance)
            if name is not None:
                yield _text(name)

    def _nvlinks(self, card: Any) -> tuple[tuple[str, int], ...] | None:
        """What its active NVLinks lead to: other cards, or the switches that all cards of one island share."""
        ends: dict[str, int] = {}
        answered = False
        for link in range(_MOST_NVLINKS):
            state = self._ask("nvmlDeviceGetNvLinkState", card, link)
            answered = answered or state is not None
            if not state:
                continue
            far = self._ask("nvmlDeviceGetNvLinkRemotePciInfo", card, link)
            end = "unknown" if far is None else _text(far.busId)
            ends[end] = ends.get(end, 0) + 1
        return tuple(sorted(ends.items())) if answered else None

    def _reading(self, card: Any) -> Sample | None:
        name = self._ask("nvmlDeviceGetUUID", card)
        if name is None:
            return None
        use = self._ask("nvmlDeviceGetUtilizationRates", card)
        memory = self._ask("nvmlDeviceGetMemoryInfo", card)
        milliwatts = self._ask("nvmlDeviceGetPowerUsage", card)
        # 0 is NVML_TEMPERATURE_GPU, the only sensor there is.
        temperature = self._ask("nvmlDeviceGetTemperature", card, 0)
        running = self._ask("nvmlDeviceGetComputeRunningProcesses", card)
        return Sample(
            gpu_uuid=_text(name),
            utilization_pct=None if use is None else int(use.gpu),
            memory_used_mib=None if memory is None else int(memory.used) // MIB,
            power_w=None if milliwatts is None else milliwatts / 1000,
            temperature_c=None if temperature is None else int(temperature),
            processes=tuple(_processes(running or ())),
        )


def _processes(running: Any) -> Iterator[tuple[int, int | None]]:
    for process in running:
        used = process.usedGpuMemory
        yield int(process.pid), None if used is None else int(used) // MIB


def _text(value: Any) -> str:
    """Older bindings answer bytes, newer ones text."""
    return value.decode() if isinstance(value, bytes) else str(value)


@dataclass(frozen=True, slots=True)
class SimulatedLoad:
    """What one simulated process does to one simulated GPU."""

    gpu_uuid: str
    pid: int
    utilization_pct: int
    memory_mib: int


class SimulatedGpus:
    """GPUs that do not exist, and never look as if they did: their UUIDs begin with SIM-.

    They report what the loads put on them add up to and nothing else: an idle one uses 0 % and 0 MiB. They draw no
    power and have no temperature, so both are unknown. The same `site` gives the same UUIDs after every restart.
    """

    def __init__(self, count: int, *, site: str, because: tuple[str, ...] = ()) -> None:
        self._gpus = tuple(
            GpuInfo(
                uuid=f"SIM-{uuid.uuid5(_SIMULATED_NAMES, f'{site}/{index}')}",
                index=index,
                model=SIMULATED_MODEL,
                memory_mib=SIMULATED_MEMORY_MIB,
                simulated=True,
            )
            for index in range(count)
        )
        self._because = because
        self._loads: dict[tuple[str, int], SimulatedLoad] = {}
        self._lock = Lock()
        #: what is wrong with them
        self.faults = SimulatedHealth()

    def inventory(self) -> tuple[GpuInfo, ...]:
        return self._gpus

    def sample(self) -> tuple[Sample, ...]:
        with self._lock:
            loads = sorted(self._loads.values(), key=lambda load: load.pid)
        return tuple(simulated_reading(gpu, loads) for gpu in self._gpus)

    def health(self) -> tuple[Reading, ...] | None:
        with self._lock:
            loads = sorted(self._loads.values(), key=lambda load: load.pid)
        return self.faults.readings(self._gpus, [(load.gpu_uuid, process_of(load)) for load in loads])

    def driver_version(self) -> str:
        return ""

    def notes(self) -> tuple[str, ...]:
        if not self._gpus:
            return self._because
        return (*self._because, SIMULATED_ONES.format(n=len(self._gpus)) if len(self._gpus) > 1 else SIMULATED_ONE)

    def put(self, load: SimulatedLoad) -> None:
        """A simulated process begins, or changes what it does; a process has one load per GPU."""
        with self._lock:
            self._loads[load.gpu_uuid, load.pid] = load

    def end(self, *, pid: int) -> None:
        """A simulated process is over. Unknown pid: nothing happens."""
        with self._lock:
            self._loads = {key: load for key, load in self._loads.items() if load.pid != pid}


def process_of(load: SimulatedLoad) -> Process:
    return Process(pid=load.pid, memory_mib=load.memory_mib, name="simulated")


def simulated_reading(gpu: GpuInfo, all_loads: list[SimulatedLoad]) -> Sample:
    """What these loads add up to on one GPU."""
    loads = [load for load in all_loads if load.gpu_uuid == gpu.uuid]
    return Sample(
        gpu_uuid=gpu.uuid,
        utilization_pct=min(100, sum(load.utilization_pct for load in loads)),
        memory_used_mib=sum(load.memory_mib for load in loads),
        processes=tuple((load.pid, load.memory_mib) for load in loads),
    )
