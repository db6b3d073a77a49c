"""The health of NVIDIA's cards as NVML tells it. What a card or an old driver does not answer stays unknown."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from portal.kernel import clock
from scheduling.nodes.health import Process, Reading, Xid

_MIB = 1024 * 1024
_KEPT_XIDS = 32  # per card; what is older has long been told
_MOST_AT_ONCE = 256
#: NVML_GPU_RECOVERY_ACTION_* in our words; "drain" is the reset that can wait until the card is free
_RECOVERY = {0: "none", 1: "reset", 2: "restart", 3: "drain", 4: "drain", 6: "reset", 7: "restart"}

Ask = Callable[..., Any]


class XidEvents:
    """Collects what the driver reports of each card. NVML tells an event once, so they are kept here and told again
    with every reading: a report may be lost."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._events: Any = None
        self._registered: set[str] = set()
        self._seen: dict[str, deque[Xid]] = {}

    def restart(self) -> None:
        """NVML was started anew: what was registered with it is not any more. What was seen is kept."""
        self._events = None
        self._registered.clear()

    def collect(self, cards: list[tuple[str, Any]]) -> None:
        """Take what has come since the last call. `cards`: (UUID, handle)."""
        try:
            if self._events is None:
                self._events = self._nvml.nvmlEventSetCreate()
            for uuid, card in cards:
                if uuid not in self._registered:
                    self._registered.add(uuid)
                    self._register(card)
            for _ in range(_MOST_AT_ONCE):
                event = self._nvml.nvmlEventSetWait_v2(self._events, 0)
                if event.eventType == self._nvml.nvmlEventTypeXidCriticalError:
                    self._note(_text(self._nvml.nvmlDeviceGetUUID(event.device)), int(event.eventData))
        except (self._nvml.NVMLError, AttributeError):  # NVMLError_Timeout: nothing more; else it has no events
            return

    def of(self, uuid: str) -> tuple[Xid, ...]:
        return tuple(self._seen.get(uuid, ()))

    def _register(self, card: Any) -> None:
        try:
            self._nvml.nvmlDeviceRegisterEvents(card, self._nvml.nvmlEventTypeXidCriticalError, self._events)
        except self._nvml.NVMLError:  # this card has none
            return

    def _note(self, uuid: str, number: int) -> None:
        seen = self._seen.setdefault(uuid, deque(maxlen=_KEPT_XIDS))
        boot_ms = int(clock.boottime() * 1000)
        last = seen[-1].boot_ms if seen else 0
        seen.append(Xid(number, max(boot_ms, last + 1)))  # two of the same moment are two


def read_card(ask: Ask, nvml: Any, card: Any, uuid: str, xids: tuple[Xid, ...]) -> Reading:
    """One card's facts. `ask(question, card, …)` answers None where the card does not."""
    # Uncorrected errors (1) since the driver took the card (volatile, 0).
    ecc = ask("nvmlDeviceGetTotalEccErrors", card, 1, 0)
    rows = ask("nvmlDeviceGetRemappedRows", card)  # (corrected, uncorrected, pending, failed)
    pages = ask("nvmlDeviceGetRetiredPagesPendingStatus", card)  # of cards before Ampere
    # Version 2 leaves out what the driver keeps for itself; older ones count it in.
    memory = ask("nvmlDeviceGetMemoryInfo", card, getattr(nvml, "nvmlMemory_v2", None))
    memory = memory or ask("nvmlDeviceGetMemoryInfo", card)
    running = ask("nvmlDeviceGetComputeRunningProcesses", card) or ()
    pending = None if rows is None and pages is None else bool((rows and rows[2]) or pages)
    return Reading(
        gpu_uuid=uuid,
        xids=xids,
        ecc_uncorrected=None if ecc is None else int(ecc),
        remap_pending=pending,
        remap_failed=None if rows is None else bool(rows[3]),
        recovery=_recovery(ask, nvml, card),
        memory_used_mib=None if memory is None else int(memory.used) // _MIB,
        processes=tuple(_process(one) for one in running),
    )


def _recovery(ask: Ask, nvml: Any, card: Any) -> str:
    field = getattr(nvml, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION", None)
    values = None if field is None else ask("nvmlDeviceGetFieldValues", card, [field])
    if not values or values[0].nvmlReturn != 0:  # drivers before R570 do not know the field
        return ""
    return _RECOVERY.get(int(values[0].value.uiVal), "")


def _process(one: Any) -> Process:
    used = one.usedGpuMemory
    return Process(pid=int(one.pid), memory_mib=None if used is None else int(used) // _MIB, name=_name(int(one.pid)))


def _name(pid: int) -> str:
    """As the kernel has it; empty if the process is gone, or out of sight of this one."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
