"""What a machine lacks, and the remedy of each."""

from dataclasses import replace
from typing import Any

import pytest

from scheduling.nodes.driver import GpuInfo
from scheduling.nodes.preflight import Facts, Finding, judge, nvidia_devices, report

CARDS = tuple(GpuInfo(f"GPU-{i}", i, "NVIDIA H100 80GB HBM3", 81559) for i in range(2))
INFO: dict[str, Any] = {
    "ServerVersion": "27.3.1",
    "Runtimes": {"runc": {}, "nvidia": {}},
    "CgroupDriver": "systemd",
    "CgroupVersion": "2",
}
CDI = frozenset(f"nvidia.com/gpu={card.uuid}" for card in CARDS)
GOOD = Facts(driver="docker", info=INFO, gpus=CARDS, cdi=CDI, device_nodes=("nvidia0", "nvidiactl"), linked=True)


def findings(**changes: Any) -> list[Finding]:
    return [finding for finding in judge(replace(GOOD, **changes)) if finding.level != "ok"]


def test_a_good_machine_has_nothing_to_remedy():
    assert findings() == []
    assert "The agent can run here." in report(judge(GOOD))


def test_no_engine_is_an_obstacle():
    (found,) = findings(engine_trouble="No Docker Engine answers.", info={}, gpus=(), device_nodes=())
    assert (found.level, found.sentence) == ("obstacle", "No Docker Engine answers.")


def test_neither_runtime_nor_cdi_is_an_obstacle_where_there_are_gpus():
    info = {**INFO, "Runtimes": {"runc": {}}}
    found = findings(info=info, cdi=frozenset())
    assert found[0].level == "obstacle"
    assert "nvidia-ctk runtime configure" in found[0].remedy
    assert [f for f in findings(info=info, cdi=frozenset(), gpus=(), device_nodes=()) if f.level == "obstacle"] == []


def test_a_runtime_without_cdi_is_a_warning():
    (found,) = findings(cdi=frozenset())
    assert (found.level, "cdi generate" in found.remedy) == ("warning", True)


def test_a_specification_that_lacks_a_card_is_named():
    (found,) = findings(cdi=frozenset({"nvidia.com/gpu=GPU-0"}))
    assert "GPU-1" in found.sentence
    assert "GPU-0" not in found.sentence


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ({"linked": False}, True),
        ({"linked": True}, False),
        ({"linked": False, "info": {**INFO, "CgroupDriver": "cgroupfs"}}, False),
        ({"linked": False, "cdi": CDI}, False),
        ({"linked": False, "gpus": ()}, False),
    ],
)
def test_containers_that_lose_their_gpus_after_a_systemd_reload_are_foreseen(changes: dict[str, Any], warned: bool):
    found = findings(**{"cdi": frozenset(), **changes})
    assert any("daemon-reload" in f.sentence and "dev-char-symlinks" in f.remedy for f in found) is warned


def test_devices_without_an_answer_and_little_room_are_warnings():
    found = findings(gpus=(), cdi=frozenset(), disk_free_mib=1024)
    assert [f.level for f in found] == ["warning", "warning"]
    assert "no GPU answers" in found[0].sentence
    assert "1 GiB" in found[1].sentence


def test_the_process_driver_needs_a_python():
    assert [f.level for f in judge(Facts(driver="process"))] == ["obstacle"]
    assert [f.level for f in judge(Facts(driver="process", lab_python="/usr/bin/python3"))] == ["ok"]


def test_every_warning_and_obstacle_has_a_remedy():
    worst = replace(
        GOOD,
        info={**INFO, "Runtimes": {}, "CgroupVersion": "1", "Warnings": ["No swap limit support"]},
        cdi=frozenset(),
        linked=False,
        gpu_notes=("GPU 0 does not answer.",),
        disk_free_mib=1,
        state_folder_trouble="It cannot be written.",
    )
    found = [finding for finding in judge(worst) if finding.level != "ok"]
    assert len(found) >= 7
    assert all(finding.remedy for finding in found)
    assert "OBSTACLE" in report(found)


def test_a_machine_without_nvidia_devices_has_none(tmp_path):
    assert nvidia_devices(tmp_path) == ((), False)
