"""How NVML's answers become a card's health, against a stand-in for its Python module."""

from types import SimpleNamespace
from typing import Any

import pytest

from scheduling.nodes.gpus import NvmlGpus
from scheduling.nodes.health import Reading

MIB = 1024**2
QUESTIONS = (
    "nvmlDeviceGetTotalEccErrors",
    "nvmlDeviceGetRemappedRows",
    "nvmlDeviceGetRetiredPagesPendingStatus",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceRegisterEvents",
)


class FakeNvml:
    """Two cards. `events`: (card, xid) that wait to be told, each once, as NVML does."""

    class NVMLError(Exception): ...

    class NVMLError_LibraryNotFound(NVMLError): ...

    class NVMLError_Timeout(NVMLError): ...

    class NVMLError_GpuIsLost(NVMLError): ...

    nvmlMemory_v2 = 0x2000028
    NVML_FI_DEV_GET_GPU_RECOVERY_ACTION = 230
    nvmlEventTypeXidCriticalError = 8

    def __init__(self, *, refuse: tuple[str, ...] = (), **answers: Any) -> None:
        self.refuse, self.answers = refuse, answers
        self.events: list[tuple[int, int]] = []
        self.registered: list[tuple[int, int, object]] = []
        self.sets = 0
        self.broken = False
        self.lost: set[int] = set()

    def nvmlInit(self) -> None:
        if self.broken:
            raise self.NVMLError("Driver/library version mismatch")

    def nvmlDeviceGetCount(self) -> int:
        if self.broken:
            raise self.NVMLError("Unknown Error")
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index in self.lost:
            raise self.NVMLError_GpuIsLost("GPU is lost")
        return index

    def nvmlDeviceGetUUID(self, card: int) -> str:
        return f"GPU-{card}"

    def nvmlEventSetCreate(self) -> int:
        self.sets += 1
        return self.sets

    def nvmlEventSetWait_v2(self, events: int, wait_ms: int) -> Any:
        assert (events, wait_ms) == (self.sets, 0)
        if not self.events:
            raise self.NVMLError_Timeout("Timeout")
        card, number = self.events.pop(0)
        return SimpleNamespace(eventType=8, eventData=number, device=card)

    def nvmlDeviceRegisterEvents(self, card: int, kinds: int, events: int) -> None:
        self._refuse("nvmlDeviceRegisterEvents")
        self.registered.append((card, kinds, events))

    def nvmlDeviceGetTotalEccErrors(self, card: int, kind: int, counter: int) -> int:
        self._refuse("nvmlDeviceGetTotalEccErrors")
        assert (kind, counter) == (1, 0)  # uncorrected, volatile
        return int(self.answers.get("ecc", 0))

    def nvmlDeviceGetRemappedRows(self, card: int) -> tuple[int, int, int, int]:
        self._refuse("nvmlDeviceGetRemappedRows")
        return self.answers.get("rows", (0, 0, 0, 0))

    def nvmlDeviceGetRetiredPagesPendingStatus(self, card: int) -> int:
        self._refuse("nvmlDeviceGetRetiredPagesPendingStatus")
        return int(self.answers.get("pages", 0))

    def nvmlDeviceGetMemoryInfo(self, card: int, version: int | None = None) -> Any:
        self._refuse("nvmlDeviceGetMemoryInfo")
        if version is not None and "old" in self.answers:
            raise self.NVMLError("Function not found")
        return SimpleNamespace(total=81559 * MIB, used=(4 if version else 480) * MIB)

    def nvmlDeviceGetComputeRunningProcesses(self, card: int) -> list[Any]:
        self._refuse("nvmlDeviceGetComputeRunningProcesses")
        return [SimpleNamespace(pid=2**30, usedGpuMemory=2048 * MIB)] if card == 1 else []

    def nvmlDeviceGetFieldValues(self, card: int, fields: list[int]) -> list[Any]:
        self._refuse("nvmlDeviceGetFieldValues")
        assert fields == [230]
        code = self.answers.get("recovery", 0)
        return [SimpleNamespace(nvmlReturn=0 if code is not None else 3, value=SimpleNamespace(uiVal=code or 0))]

    def _refuse(self, question: str) -> None:
        if question in self.refuse:
            raise self.NVMLError("Not Supported")


def first(nvml: FakeNvml) -> Reading:
    readings = NvmlGpus(nvml).health()
    assert readings is not None
    return readings[0]


def test_a_card_that_is_well_says_so_in_every_field():
    readings = NvmlGpus(FakeNvml()).health()
    assert readings is not None
    assert readings[0] == Reading(
        "GPU-0", ecc_uncorrected=0, remap_pending=False, remap_failed=False, recovery="none", memory_used_mib=4
    )
    assert [(process.pid, process.memory_mib, process.allocation) for process in readings[1].processes] == [
        (2**30, 2048, None)
    ]


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_a_card_does_not_answer_is_unknown_and_hides_nothing_else(question):
    reading = first(FakeNvml(refuse=(question,), ecc=3, rows=(0, 1, 1, 0)))
    assert reading.answers
    known = {
        "ecc_uncorrected": 3, "remap_pending": True, "remap_failed": False, "recovery": "none", "memory_used_mib": 4
    }  # fmt: skip
    wrong = [name for name, value in known.items() if getattr(reading, name) not in (value, None, "", False)]
    assert wrong == []


def test_a_card_that_answers_nothing_says_nothing():
    assert first(FakeNvml(refuse=QUESTIONS)) == Reading("GPU-0")


@pytest.mark.parametrize(
    ("rows", "pages", "pending", "failed"),
    [((1, 0, 0, 0), 0, False, False), ((0, 1, 1, 0), 0, True, False), ((0, 1, 0, 1), 0, False, True)],
)
def test_rows_of_memory_that_are_to_be_replaced(rows, pages, pending, failed):
    reading = first(FakeNvml(rows=rows, pages=pages))
    assert (reading.remap_pending, reading.remap_failed) == (pending, failed)


def test_older_cards_have_pages_instead_of_rows():
    reading = first(FakeNvml(refuse=("nvmlDeviceGetRemappedRows",), pages=1))
    assert (reading.remap_pending, reading.remap_failed) == (True, None)


def test_an_old_driver_counts_its_own_memory_in():
    assert first(FakeNvml(old=True)).memory_used_mib == 480


@pytest.mark.parametrize(
    ("code", "word"),
    [(0, "none"), (1, "reset"), (2, "restart"), (3, "drain"), (4, "drain"), (5, ""), (6, "reset"), (7, "restart"),
     (None, "")],
)  # fmt: skip
def test_what_the_driver_wants_done(code, word):
    assert first(FakeNvml(recovery=code)).recovery == word


def test_an_error_is_told_once_by_nvml_and_with_every_reading_by_us(manual_clock):
    nvml = FakeNvml()
    source = NvmlGpus(nvml)
    source.health()
    assert nvml.registered == [(0, 8, 1), (1, 8, 1)]
    nvml.events = [(1, 31), (1, 31), (0, 79)]
    for _ in range(2):
        zero, one = source.health() or ()
        assert [xid.number for xid in zero.xids] == [79]
        assert [xid.number for xid in one.xids] == [31, 31]
        assert len({xid.boot_ms for xid in one.xids}) == 2  # two events, though at the same moment
    assert len(nvml.registered) == 2


def test_after_a_fresh_start_of_nvml_events_are_registered_anew_and_none_is_forgotten(manual_clock):
    nvml = FakeNvml()
    source = NvmlGpus(nvml)
    source.health()
    nvml.events = [(0, 48)]
    source.health()
    nvml.broken = True
    assert source.health() is None
    nvml.broken = False
    zero, _ = source.health() or ()
    assert [xid.number for xid in zero.xids] == [48]
    assert nvml.sets == 2


def test_one_lost_card_is_absent_and_a_broken_driver_says_nothing_of_any():
    nvml = FakeNvml()
    nvml.lost = {0}
    assert [reading.gpu_uuid for reading in NvmlGpus(nvml).health() or ()] == ["GPU-1"]
    nvml.broken = True
    assert NvmlGpus(nvml).health() is None


def test_what_is_asked_for_exists_in_nvidias_own_module():
    real = pytest.importorskip("pynvml")
    asked = [*QUESTIONS, "nvmlEventSetCreate", "nvmlEventSetWait_v2", "nvmlMemory_v2", "NVMLError_Timeout"]
    assert [name for name in asked if not hasattr(real, name)] == []
    assert real.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION == FakeNvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
    assert real.nvmlEventTypeXidCriticalError == FakeNvml.nvmlEventTypeXidCriticalError
    names = {name: getattr(real, name) for name in dir(real) if name.startswith("NVML_GPU_RECOVERY_ACTION_")}
    assert {names[f"NVML_GPU_RECOVERY_ACTION_{name}"] for name in ("GPU_RESET", "BUS_RESET")} == {1, 6}
    assert {names[f"NVML_GPU_RECOVERY_ACTION_{name}"] for name in ("NODE_REBOOT", "SYSTEM_REBOOT")} == {2, 7}
    assert {names[f"NVML_GPU_RECOVERY_ACTION_{name}"] for name in ("DRAIN_P2P", "DRAIN_AND_RESET")} == {3, 4}
