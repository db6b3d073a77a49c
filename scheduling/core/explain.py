"""Why a job waits, in words: one sentence for each code, with the numbers of the plan that decided."""

from collections.abc import Mapping
from datetime import UTC, datetime

from scheduling.core.decisions import HoldCode, Lack
from scheduling.core.units import GPU_UNITS

SENTENCES: dict[HoldCode, str] = {
    HoldCode.NO_NODES: "No node that could hold it accepts work now.",
    HoldCode.NEVER_FITS: "{lack}",
    HoldCode.NOT_BEFORE: "It asked to start not before {starts_at}.",
    HoldCode.TEAM_WINDOW: "Its team may start work again from {opens_at} on.",
    HoldCode.GUARANTEE_USED: "It may not be evicted, so it may use only what its team is guaranteed: {used} of "
    "{limit} {unit} are used so by others, and it needs {asked}.",
    HoldCode.TEAM_LIMIT: "It needs {asked} {unit}, and the limits of its team leave {left}.",
    HoldCode.USER_LIMIT: "It needs {asked} {unit}; one member of the team may use {limit}, and {used} are used.",
    HoldCode.POOL_FULL: "It needs {asked} {unit}; the pool has {left} left that may be lent to its team.",
    HoldCode.CLAIMED: "{stopping} stopping to make room for it.",
    HoldCode.GPUS_BUSY: "It needs {gpus} on one node; the most that is free on one is {free_gpus}.",
    HoldCode.ISLAND_BUSY: "It needs {gpus} of one NVLink island; the most that is free in one is {free_gpus}.",
    HoldCode.SLICES_BUSY: "No card has a free part of {part_gpus} GPU.",
    HoldCode.GANG_BUSY: "All {replicas} replicas start together; {fitting} of them would fit now.",
    HoldCode.CPU_BUSY: "It needs {cpus} of one node's CPU cores; the most that is free beside its GPUs is {free_cpus}.",
    HoldCode.MEMORY_BUSY: "It needs {memory_gib} GiB of memory on one node; the most that is free is "
    "{free_memory_gib}.",
    HoldCode.TOPOLOGY: "{fitting} replicas would fit now, but not the {replicas} that it needs close together.",
    HoldCode.RESERVED: "It would fit now, but its time limit reaches into what is reserved for a job ahead of it.",
    HoldCode.BEHIND: "{ahead} ahead of it in the queue.",
    HoldCode.PINNED: "It is suspended, and others are using its GPUs.",
}

#: each is said of the nodes that the filters before it have left
LACKS: dict[Lack, str] = {
    Lack.POOL: "None of the pools that it accepts has a node.",
    Lack.LABEL: "No node in a pool that it accepts has the labels that it asks for.",
    Lack.GPU: "It asks for GPUs, and no node with the pool and labels that it asks for has any.",
    Lack.MODEL: "No node with the pool and labels that it asks for has a GPU of a model that it accepts.",
    Lack.CUT: "Every GPU of the kind that it accepts is cut into MIG instances, and stays so.",
    Lack.MIG: "No GPU of the kind that it accepts is cut or can be cut into the MIG instance that it asks for.",
    Lack.GPU_MEMORY: "It asks for {gpu_memory_gib} GiB of memory on each GPU, and no GPU of the kind that it accepts "
    "has that much.",
    Lack.COUNT: "It asks for {gpus} on one node, and no node has so many of a kind that it accepts. Ask for less.",
    Lack.ISLAND: "Its GPUs must lie in one NVLink island, and no node has one that is large enough.",
    Lack.SIZE: "It asks for {cpus} of one node's CPU cores and {memory_gib} GiB of its memory, and no node "
    "that has all else it asks for has that much. Ask for less.",
}

_COUNTED = {"gpus": ("GPU", "GPUs"), "ahead": ("job is", "jobs are"), "stopping": ("job is", "jobs are")}
_RIGHTS = ("asked", "left", "used", "limit")


def sentence(code: str, numbers: Mapping[str, int]) -> str:
    """The sentence for a stored code and its numbers. Units become GPUs, thousandths cores, MiB GiB; a code or a number
    of another version gives no sentence."""
    try:
        return SENTENCES[HoldCode(code)].format(**_words(code, numbers))
    except (KeyError, ValueError):
        return ""


def _words(code: str, numbers: Mapping[str, int]) -> dict[str, str]:
    words: dict[str, str] = {name: str(value) for name, value in numbers.items()}
    for name in ("cpu", "free_cpu"):
        if f"{name}_millis" in numbers:
            words[f"{name}s"] = f"{numbers[f'{name}_millis'] / 1000:g}"
    for name in ("memory", "free_memory", "gpu_memory"):
        if f"{name}_mib" in numbers:
            words[f"{name}_gib"] = f"{numbers[f'{name}_mib'] / 1024:.3g}"
    for name in _RIGHTS:
        if name in numbers:
            words[name], words["unit"] = f"{numbers[name] / GPU_UNITS:.4g}", "GPUs"
        elif f"{name}_cpu_millis" in numbers:
            words[name], words["unit"] = f"{numbers[f'{name}_cpu_millis'] / 1000:g}", "CPU cores"
    if "units" in numbers:
        words["part_gpus"] = f"{numbers['units'] / GPU_UNITS:.4g}"
    for name in ("starts", "opens"):
        if name in numbers:
            words[f"{name}_at"] = f"{datetime.fromtimestamp(numbers[name], tz=UTC):%Y-%m-%d %H:%M} UTC"
    for name, (one, many) in _COUNTED.items():
        if name in numbers:
            words[name] = f"{numbers[name]} {one if numbers[name] == 1 else many}"
    if code == HoldCode.NEVER_FITS:
        words["lack"] = LACKS[Lack(numbers["lacks"])].format(**words)
    return words
