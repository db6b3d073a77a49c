"""What can be wrong with a simulated GPU: exactly what is injected, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from portal.kernel import clock
from scheduling.nodes.driver import GpuInfo
from scheduling.nodes.health import Process, Reading, Xid

LEFT_BEHIND = 9_000_000  # pids of what containers leave behind are above this, where no real one is


@dataclass(frozen=True, slots=True)
class GpuFaults:
    """What is wrong with one card from its injection on. The default is a card that is well.

    `strangers`: processes that nobody was given the card for. `lingers_s`: a container's process stays on the card for
    so long after the container has gone. `leaked_mib`: memory that is used by no process.
    """

    lost: bool = False
    ecc_uncorrected: int = 0
    remap_pending: bool = False
    remap_failed: bool = False
    recovery: str = "none"
    strangers: tuple[Process, ...] = ()
    lingers_s: float = 0
    leaked_mib: int = 0


class SimulatedHealth:
    """The injected faults of one machine's cards. `unseen`: as if the whole driver did not answer."""

    def __init__(self) -> None:
        self.unseen = False
        self._faults: dict[str, GpuFaults] = {}
        self._xids: dict[str, list[Xid]] = {}
        self._lingering: dict[str, list[tuple[float, Process]]] = {}

    def inject(self, uuid: str, faults: GpuFaults) -> None:
        """From now on the card is like this. What was injected before is over, but for Xids, which have happened."""
        self._faults[uuid] = faults

    def xid(self, uuid: str, number: int) -> None:
        """The simulated driver reports an error of this card now."""
        seen = self._xids.setdefault(uuid, [])
        seen.append(Xid(number, int(clock.boottime() * 1000) + len(seen)))

    def restart(self) -> None:
        """The simulated machine was restarted: its cards are well, and the driver has nothing to report."""
        self.unseen = False
        for memory in (self._faults, self._xids, self._lingering):
            memory.clear()

    def left(self, uuid: str, process: Process) -> None:
        """A container that had the card has gone, and its process goes as fast as the card's faults let it."""
        faults = self._faults.get(uuid)
        if faults is not None and faults.lingers_s:
            process = Process(LEFT_BEHIND + process.pid, process.memory_mib, process.name, "")
            self._lingering.setdefault(uuid, []).append((clock.monotonic() + faults.lingers_s, process))

    def readings(self, gpus: Sequence[GpuInfo], running: Sequence[tuple[str, Process]]) -> tuple[Reading, ...] | None:
        """`running`: (card, process) of every container."""
        return None if self.unseen else tuple(self._reading(gpu.uuid, running) for gpu in gpus if not self._lost(gpu))

    def _lost(self, gpu: GpuInfo) -> bool:
        return self._faults.get(gpu.uuid, GpuFaults()).lost

    def _reading(self, uuid: str, running: Sequence[tuple[str, Process]]) -> Reading:
        faults = self._faults.get(uuid, GpuFaults())
        at = clock.monotonic()
        still = [process for until, process in self._lingering.get(uuid, ()) if until > at]
        own = [process for card, process in running if card == uuid]
        processes = (*own, *still, *faults.strangers)
        return Reading(
            gpu_uuid=uuid,
            xids=tuple(self._xids.get(uuid, ())),
            ecc_uncorrected=faults.ecc_uncorrected,
            remap_pending=faults.remap_pending,
            remap_failed=faults.remap_failed,
            recovery=faults.recovery,
            memory_used_mib=faults.leaked_mib + sum(process.memory_mib or 0 for process in processes),
            processes=processes,
        )
