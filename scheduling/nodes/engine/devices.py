"""Handing GPUs to a container: by UUID, through CDI where the engine knows the device, else NVIDIA's runtime hook."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docker.types import DeviceRequest

from scheduling.nodes.driver import Device

_CDI_KIND = "nvidia.com/gpu"


def requests_for(devices: Sequence[Device], info: dict[str, Any]) -> list[DeviceRequest]:
    """What the engine is asked for. Always ids, never a count: a count hands out cards that others hold.

    `info` is the engine's own description; engines before 25 have no "CDISpecDirs" and refuse the driver "cdi".
    """
    real = [device.uuid for device in devices if not device.simulated]
    if not real:
        return []
    names = [f"{_CDI_KIND}={uuid}" for uuid in real]
    if cdi_devices(info).issuperset(names):
        return [DeviceRequest(driver="cdi", device_ids=names)]
    return [DeviceRequest(device_ids=real, capabilities=[["gpu"]])]


def visible_env(devices: Sequence[Device], info: dict[str, Any]) -> dict[str, str]:
    """Variables that must be set whatever the image says.

    CUDA images carry NVIDIA_VISIBLE_DEVICES=all; where `nvidia` is the engine's default runtime that alone would hand
    every card to every container, so it is always overruled, and "void" for those that hold none.
    """
    real = [device.uuid for device in devices if not device.simulated]
    by_cdi = bool(real) and cdi_devices(info).issuperset(f"{_CDI_KIND}={uuid}" for uuid in real)
    env = {"NVIDIA_VISIBLE_DEVICES": ",".join(real) if real and not by_cdi else "void"}
    if simulated := [device.uuid for device in devices if device.simulated]:
        env["BERTH_SIMULATED_GPUS"] = ",".join(simulated)
    return env


def cdi_devices(info: dict[str, Any]) -> frozenset[str]:
    """Full names of what the engine can resolve now: its own list (Engine 28+), else its specification files."""
    folders = info.get("CDISpecDirs") or ()
    if discovered := info.get("DiscoveredDevices"):
        return frozenset(entry.get("ID", "") for entry in discovered if entry.get("Source") == "cdi")
    names: set[str] = set()
    for folder in folders:
        for path in sorted(Path(folder).glob("*.json")) + sorted(Path(folder).glob("*.yaml")):
            names |= _names_in(path)
    return frozenset(names)


def _names_in(path: Path) -> set[str]:
    """Device names of one CDI file. nvidia-ctk writes flat YAML of which only "kind:" and "name:" matter: no parser."""
    try:
        text = path.read_text()
    except OSError:
        return set()
    if path.suffix == ".json":
        try:
            spec = json.loads(text)
            return {f"{spec['kind']}={device['name']}" for device in spec["devices"]}
        except (ValueError, KeyError, TypeError):
            return set()
    kind, names = "", set()
    for line in text.splitlines():
        key, _, value = line.strip().removeprefix("- ").partition(":")
        value = value.strip().strip("\"'")
        if key == "kind":
            kind = value
        elif key == "name":
            names.add(value)
    return {f"{kind}={name}" for name in names} if kind else set()


def runtime_note(info: dict[str, Any]) -> str | None:
    """A sentence when this engine shows no way to hand over a real GPU."""
    if "nvidia" in (info.get("Runtimes") or {}) or any(name.startswith(_CDI_KIND) for name in cdi_devices(info)):
        return None
    return (
        "This machine has NVIDIA GPUs, but its Docker Engine lists neither the nvidia runtime nor CDI devices: install "
        "nvidia-container-toolkit and restart Docker, or workspaces with a GPU will be refused."
    )
