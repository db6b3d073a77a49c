"""GPU inventory against an NVML that refuses, lacks and breaks things, and simulated GPUs that claim nothing."""

from types import SimpleNamespace
from typing import Any

import pytest

from scheduling.nodes import gpus
from scheduling.nodes.gpus import NO_CARD, NO_DRIVER, NO_LIBRARY, NvmlGpus, SimulatedGpus, SimulatedLoad, detect

GIB = 1024**3

# One question per optional field, and where its answer ends up.
INVENTORY_FIELDS = {
    "nvmlDeviceGetMemoryInfo": "memory_mib",
    "nvmlDeviceGetMigMode": "mig_enabled",
    "nvmlDeviceGetPciInfo": "pci_bus_id",
}
SAMPLE_FIELDS = {
    "nvmlDeviceGetUtilizationRates": "utilization_pct",
    "nvmlDeviceGetMemoryInfo": "memory_used_mib",
    "nvmlDeviceGetPowerUsage": "power_w",
    "nvmlDeviceGetTemperature": "temperature_c",
}


class FakeNvml:
    """Stands in for the module `pynvml` on a machine without a card: two H100s that refuse what they are told to."""

    class NVMLError(Exception): ...

    class NVMLError_NotSupported(NVMLError): ...

    class NVMLError_LibraryNotFound(NVMLError): ...

    class NVMLError_LibRmVersionMismatch(NVMLError): ...

    class NVMLError_GpuIsLost(NVMLError): ...

    def __init__(self, *, refuse: tuple[str, ...] = (), count: int = 2, init: type[Exception] | None = None) -> None:
        self.refuse, self.count, self.init, self.inits = refuse, count, init, 0
        self.lost: set[int] = set()

    def nvmlInit(self) -> None:
        self.inits += 1
        if self.init:
            raise self.init(self.init.__name__)

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index in self.lost:
            raise self.NVMLError_GpuIsLost("GPU is lost")
        return index

    def __getattr__(self, question: str) -> Any:
        answers = {
            "nvmlDeviceGetUUID": lambda card: f"GPU-{card}",
            "nvmlDeviceGetName": lambda card: "NVIDIA H100 80GB HBM3",
            "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(total=80 * GIB, used=480 * 1024**2),
            "nvmlDeviceGetMigMode": lambda card: [0, 0],
            "nvmlDeviceGetPciInfo": lambda card: SimpleNamespace(busId=b"00000000:18:00.0"),
            "nvmlDeviceGetUtilizationRates": lambda card: SimpleNamespace(gpu=37, memory=5),
            "nvmlDeviceGetPowerUsage": lambda card: 71_500,
            "nvmlDeviceGetTemperature": lambda card, sensor: 41,
            "nvmlDeviceGetComputeRunningProcesses": lambda card: [
                SimpleNamespace(pid=4711, usedGpuMemory=2 * GIB),
                SimpleNamespace(pid=4712, usedGpuMemory=None),
            ],
        }
        if question not in answers:
            raise AttributeError(question)

        def ask(*args: object) -> object:
            if question in self.refuse:
                raise self.NVMLError_NotSupported("Not Supported")
            return answers[question](*args)

        return ask


def test_a_card_that_answers_everything_is_shown_with_everything() -> None:
    source = NvmlGpus(FakeNvml())
    gpu = source.inventory()[1]
    assert (gpu.uuid, gpu.index, gpu.model, gpu.memory_mib) == ("GPU-1", 1, "NVIDIA H100 80GB HBM3", 81920)
    assert (gpu.simulated, gpu.mig_enabled, gpu.pci_bus_id) == (False, False, "00000000:18:00.0")
    sample = source.sample()[1]
    assert (sample.utilization_pct, sample.memory_used_mib, sample.power_w, sample.temperature_c) == (37, 480, 71.5, 41)
    assert sample.processes == ((4711, 2048), (4712, None))
    assert source.notes() == ()


@pytest.mark.parametrize(("question", "field"), INVENTORY_FIELDS.items())
def test_what_a_card_does_not_support_is_unknown_in_the_inventory(question: str, field: str) -> None:
    assert getattr(NvmlGpus(FakeNvml(refuse=(question,))).inventory()[0], field) is None


@pytest.mark.parametrize(("question", "field"), SAMPLE_FIELDS.items())
def test_what_a_card_does_not_support_is_unknown_in_a_sample(question: str, field: str) -> None:
    sample = NvmlGpus(FakeNvml(refuse=(question,))).sample()[0]
    others = [getattr(sample, other) for asked, other in SAMPLE_FIELDS.items() if asked != question]
    assert getattr(sample, field) is None
    assert None not in others


def test_a_card_that_refuses_every_optional_question_is_still_listed() -> None:
    source = NvmlGpus(FakeNvml(refuse=(*INVENTORY_FIELDS, *SAMPLE_FIELDS, "nvmlDeviceGetComputeRunningProcesses")))
    assert [gpu.uuid for gpu in source.inventory()] == ["GPU-0", "GPU-1"]
    assert source.sample()[0].processes == ()


def test_without_a_driver_the_note_says_that_there_is_none() -> None:
    source = NvmlGpus(FakeNvml(init=FakeNvml.NVMLError_LibraryNotFound))
    assert source.inventory() == ()
    assert source.notes() == (NO_DRIVER,)


def test_a_broken_driver_is_told_apart_from_none() -> None:
    source = NvmlGpus(FakeNvml(init=FakeNvml.NVMLError_LibRmVersionMismatch))
    assert source.inventory() == ()
    assert "is broken (NVMLError_LibRmVersionMismatch)" in source.notes()[0]


def test_a_missing_python_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(gpus.importlib, "import_module", missing)
    assert NvmlGpus().inventory() == ()
    assert NvmlGpus().notes() == (NO_LIBRARY,)


def test_a_driver_without_cards_says_so() -> None:
    source = NvmlGpus(FakeNvml(count=0))
    assert source.inventory() == ()
    assert source.notes() == (NO_CARD,)


def test_a_card_that_fell_off_the_bus_is_missed_by_name_and_the_other_stays() -> None:
    nvml = FakeNvml()
    nvml.lost = {0}
    source = NvmlGpus(nvml)
    assert [gpu.index for gpu in source.inventory()] == [1]
    assert "GPU 0 does not answer" in source.notes()[0]


def test_a_driver_restarted_under_the_agent_is_asked_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    source = NvmlGpus(nvml)
    assert len(source.inventory()) == 2
    broken = iter([True])

    def count() -> int:
        if next(broken, False):
            raise FakeNvml.NVMLError("Uninitialized")
        return 1

    monkeypatch.setattr(nvml, "nvmlDeviceGetCount", count)
    assert [gpu.index for gpu in source.inventory()] == [0]
    assert nvml.inits == 2
    assert source.notes() == ()


def test_a_machine_where_no_card_answers_gets_visibly_simulated_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    no_driver = FakeNvml(init=FakeNvml.NVMLError_LibraryNotFound)
    monkeypatch.setattr(gpus.importlib, "import_module", lambda name: no_driver)
    source = detect(simulated=2, site="s1")
    assert all(gpu.simulated and gpu.uuid.startswith("SIM-") for gpu in source.inventory())
    assert source.notes() == (NO_DRIVER, "Its 2 GPUs are simulated: programs cannot compute on them.")


def test_a_card_that_answers_is_preferred_to_simulated_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus.importlib, "import_module", lambda name: FakeNvml())
    assert [gpu.uuid for gpu in detect(simulated=2, site="s1").inventory()] == ["GPU-0", "GPU-1"]


def test_simulated_gpus_keep_their_uuids_per_site_and_differ_between_sites() -> None:
    first, again, other = (SimulatedGpus(2, site=site).inventory() for site in ("s1", "s1", "s2"))
    assert first == again
    assert len({gpu.uuid for gpu in (*first, *other)}) == 4


def test_an_idle_simulated_gpu_shows_zero_use_and_unknown_power() -> None:
    for _ in range(3):
        for sample in SimulatedGpus(2, site="s1").sample():
            assert (sample.utilization_pct, sample.memory_used_mib, sample.processes) == (0, 0, ())
            assert (sample.power_w, sample.temperature_c) == (None, None)


def test_a_simulated_gpu_shows_exactly_what_its_processes_do() -> None:
    source = SimulatedGpus(2, site="s1")
    busy, _idle = source.inventory()
    source.put(SimulatedLoad(gpu_uuid=busy.uuid, pid=7, utilization_pct=30, memory_mib=1000))
    source.put(SimulatedLoad(gpu_uuid=busy.uuid, pid=8, utilization_pct=50, memory_mib=24))
    first, second = source.sample()
    assert (first.utilization_pct, first.memory_used_mib) == (80, 1024)
    assert first.processes == ((7, 1000), (8, 24))
    assert second.utilization_pct == 0
    source.end(pid=7)
    assert source.sample()[0].utilization_pct == 50


def test_no_gpus_at_all_can_be_asked_for() -> None:
    assert SimulatedGpus(0, site="s1").inventory() == ()
    assert SimulatedGpus(0, site="s1").notes() == ()


def test_nvlinks_are_counted_by_what_they_lead_to_and_mig_instances_are_named():
    class Linked(FakeNvml):
        def nvmlDeviceGetMigMode(self, card: int) -> list[int]:
            return [1, 1]

        def nvmlDeviceGetMaxMigDeviceCount(self, card: int) -> int:
            return 7

        def nvmlDeviceGetMigDeviceHandleByIndex(self, card: int, number: int) -> str:
            if number > 1:
                raise self.NVMLError_NotSupported("Not Found")
            return f"{card}-mig-{number}"

        def nvmlDeviceGetNvLinkState(self, card: int, link: int) -> int:
            if link >= 4:
                raise self.NVMLError_NotSupported("Invalid Argument")
            return int(link != 3)  # the last one is down

        def nvmlDeviceGetNvLinkRemotePciInfo(self, card: int, link: int) -> object:
            return SimpleNamespace(busId=b"00000000:C1:00.0" if link else b"00000000:C2:00.0")

    (first, _) = NvmlGpus(Linked()).inventory()
    assert first.nvlinks == (("00000000:C1:00.0", 2), ("00000000:C2:00.0", 1))
    assert first.mig_devices == ("GPU-0-mig-0", "GPU-0-mig-1")


def test_a_card_that_does_not_tell_its_links_is_not_said_to_have_none():
    (first, _) = NvmlGpus(FakeNvml()).inventory()
    assert (first.nvlinks, first.mig_devices) == (None, ())
