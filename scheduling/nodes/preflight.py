"""What a machine lacks before work is placed on it, each with its remedy. `judge` is pure; app.py looks.

An obstacle keeps the agent from running. A warning does not, but some jobs will be refused or lose something.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from scheduling.nodes.driver import GpuInfo
from scheduling.nodes.engine.answers import ask_engine, engine_answers, engine_url

LEAST_DISK_MIB = 20 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """level: "ok", "warning" or "obstacle"."""

    level: str
    sentence: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen. engine_trouble: why the Docker driver cannot work, None if it can. info: `docker info`, {} if it
    does not answer. cdi: names of devices that the engine can resolve. device_nodes: /dev/nvidia* that there are.
    linked: whether /dev/char has links to them. disk_free_mib: where images and volumes go, None if unknown."""

    driver: str
    engine_trouble: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    gpus: tuple[GpuInfo, ...] = ()
    gpu_notes: tuple[str, ...] = ()
    cdi: frozenset[str] = frozenset()
    device_nodes: tuple[str, ...] = ()
    linked: bool = False
    disk_free_mib: int | None = None
    state_folder_trouble: str = ""
    lab_python: str = ""  # the process driver's, if it is there


def judge(facts: Facts) -> list[Finding]:
    """Every finding, in the order in which they are best remedied."""
    found = [_driver(facts)]
    if facts.state_folder_trouble:
        found.append(Finding("obstacle", facts.state_folder_trouble, "Start the agent as root or choose --state."))
    found += _gpus(facts)
    if facts.driver == "docker" and facts.engine_trouble is None:
        found += _engine(facts)
    if facts.disk_free_mib is not None and facts.disk_free_mib < LEAST_DISK_MIB:
        found.append(
            Finding(
                "warning",
                f"Only {facts.disk_free_mib // 1024} GiB are free where images and volumes go.",
                "Make room or move Docker's data-root and the agent's --state; one CUDA image takes 10 GiB.",
            )
        )
    return found


def _driver(facts: Facts) -> Finding:
    if facts.driver == "process":
        if facts.lab_python:
            return Finding("ok", f"Plain processes can run, with {facts.lab_python}.")
        return Finding("obstacle", "The process driver finds no Python with JupyterLab.", "Name one: --lab-python FILE")
    if facts.engine_trouble is None:
        return Finding("ok", f"Docker Engine {facts.info.get('ServerVersion', 'of unknown version')} answers.")
    return Finding("obstacle", facts.engine_trouble, "Install docker.io or docker-ce, start it, run the agent as root.")


def _gpus(facts: Facts) -> list[Finding]:
    found = [Finding("warning", note, "See `nvidia-smi` and the kernel's log.") for note in facts.gpu_notes]
    if facts.gpus:
        models = ", ".join(sorted({gpu.model for gpu in facts.gpus}))
        found.insert(0, Finding("ok", f"{len(facts.gpus)} GPUs answer: {models}."))
    elif facts.device_nodes and not facts.gpu_notes:
        found.append(
            Finding(
                "warning",
                "There are NVIDIA device files, but no GPU answers.",
                "Reinstall the driver for this kernel; see `dmesg | grep -i nvrm`.",
            )
        )
    return found


def _engine(facts: Facts) -> list[Finding]:
    found = []
    runtimes = facts.info.get("Runtimes") or {}
    nvidia, cdi = "nvidia" in runtimes, any(name.startswith("nvidia.com/gpu=") for name in facts.cdi)
    if facts.gpus and not nvidia and not cdi:
        found.append(
            Finding(
                "obstacle",
                "Docker has neither the nvidia runtime nor CDI devices, so no container can get a GPU.",
                "Install nvidia-container-toolkit, then as root: nvidia-ctk runtime configure --runtime=docker && "
                "systemctl restart docker",
            )
        )
    if facts.gpus and cdi and (missing := sorted(_uuids(facts.gpus) - {name.partition("=")[2] for name in facts.cdi})):
        found.append(
            Finding(
                "warning",
                f"The CDI specification does not name {', '.join(missing)}, so these are handed over by the runtime.",
                "As root: nvidia-ctk cdi generate --device-name-strategy=uuid --output=/etc/cdi/nvidia.yaml",
            )
        )
    if facts.gpus and not cdi and nvidia:
        found.append(
            Finding(
                "warning",
                "Docker knows no CDI devices; GPUs are handed over by NVIDIA's runtime hook.",
                "Better from Docker 25 on, as root: nvidia-ctk cdi generate --device-name-strategy=uuid "
                "--output=/etc/cdi/nvidia.yaml",
            )
        )
    if facts.gpus and facts.info.get("CgroupDriver") == "systemd" and not facts.linked and not cdi:
        found.append(
            Finding(
                "warning",
                "Docker leaves cgroups to systemd, and /dev/char has no links to the NVIDIA devices: after a "
                "`systemctl daemon-reload` running containers lose their GPUs.",
                "As root: nvidia-ctk system create-dev-char-symlinks --create-all, with a udev rule for reboots; or "
                '"exec-opts": ["native.cgroupdriver=cgroupfs"] in /etc/docker/daemon.json; or use CDI.',
            )
        )
    if facts.info.get("CgroupVersion") == "1":
        found.append(
            Finding("warning", "Docker runs on cgroup v1.", "Start the kernel with cgroup v2 (any recent one).")
        )
    found += [
        Finding("warning", f"Docker warns: {text}", "See Docker's documentation of this warning.")
        for text in facts.info.get("Warnings") or ()
    ]
    return found


def _uuids(gpus: Sequence[GpuInfo]) -> set[str]:
    return {gpu.uuid for gpu in gpus if not gpu.simulated}


def report(findings: Sequence[Finding]) -> str:
    """Lines for a terminal."""
    words = {"ok": "ok      ", "warning": "warning ", "obstacle": "OBSTACLE"}
    lines = []
    for finding in findings:
        lines.append(f"{words[finding.level]} {finding.sentence}")
        if finding.remedy:
            lines.append(f"{'':9}-> {finding.remedy}")
    obstacles = sum(finding.level == "obstacle" for finding in findings)
    lines.append(
        "The agent can run here." if not obstacles else f"The agent cannot run here: {obstacles} to be removed first."
    )
    return "\n".join(lines)


def engine_facts(docker_host: str | None) -> tuple[str | None, dict[str, Any]]:
    """(why the Docker driver cannot work, what the engine says of itself)."""
    trouble = engine_answers(docker_host)
    url = engine_url(docker_host)
    if not url.startswith("unix://"):
        return trouble, {}
    try:
        return trouble, ask_engine(url.removeprefix("unix://"), "/info")
    except (OSError, ValueError, HTTPException):
        return trouble or f"The Docker Engine at {url} stopped answering.", {}


def nvidia_devices(root: Path = Path("/")) -> tuple[tuple[str, ...], bool]:
    """(names of the NVIDIA device files, whether each has its link below /dev/char)."""
    files = [path for path in sorted((root / "dev").glob("nvidia*")) if path.is_char_device()]
    wanted = {f"{os.major(path.stat().st_rdev)}:{os.minor(path.stat().st_rdev)}" for path in files}
    there = {path.name for path in (root / "dev/char").glob("*")}
    return tuple(path.name for path in files), bool(wanted) and wanted <= there


def has_python(path: Path) -> str:
    return str(path) if shutil.which(str(path)) else ""
