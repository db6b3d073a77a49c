"""Why a job waits, in words: a sentence for each code, with the numbers of the plan that decided.

The numbers are what is left once that plan is carried out (`reasons`). Ids become names for a viewer who may read them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from scheduling.core.decisions import HoldCode, Lack
from scheduling.core.units import GPU_UNITS

#: for each code what is said with these numbers: the first sentence whose numbers are all there
SENTENCES: dict[HoldCode, tuple[str, ...]] = {
    HoldCode.NO_NODES: ("{nodes_closed} work now.",),
    HoldCode.NEVER_FITS: ("{lack}",),
    HoldCode.NOT_BEFORE: ("It asked to start not before {starts_at}.",),
    HoldCode.TEAM_WINDOW: ("Its team may start work again from {opens_at} on.",),
    HoldCode.GUARANTEE_USED: (
        "It may not be evicted, so it may use only what its team, and each team above it, is guaranteed: {used} of "
        "{limit} {unit} are used so by others, and it needs {asked}.",
    ),
    HoldCode.TEAM_LIMIT: (
        "It needs {asked} {unit}, and the limits of its team leave {left}.",
        "It needs {asked} {unit}, and its team is {over} over its limits.",
    ),
    HoldCode.USER_LIMIT: ("It needs {asked} {unit}; one member of the team may use {limit}, and {used} are used.",),
    HoldCode.POOL_FULL: (
        "It needs {asked} {unit}; the pool has {left} left that may be lent to its team.",
        "It needs {asked} {unit}; what is in use, or guaranteed to others, is {over} more than the pool has for its "
        "team.",
    ),
    HoldCode.CLAIMED: ("{stopping} stopping to make room for it.",),
    HoldCode.GPUS_BUSY: ("It needs {gpus} on one node; the most that is free for it on one is {free_gpus}.",),
    HoldCode.ISLAND_BUSY: (
        "It needs {gpus} of one NVLink island; the most that is free for it in one is {free_gpus}.",
    ),
    HoldCode.SLICES_BUSY: (
        "It needs {share} of a GPU; the most that is free for its team on one is {free_share}.",
        "It needs {gpu_memory_gib} GiB of a GPU's memory with its share; the most that is free for its team on one "
        "with such a share is {free_gpu_memory_gib} GiB.",
        "It needs a MIG instance of {slices}, and none can be had of {cards} of the kind that it accepts; the largest "
        "that can has {free_slices}.",
        "It needs a MIG instance of {slices}, and none that will do can be had of {cards} of the kind that it accepts.",
    ),
    HoldCode.GANG_BUSY: ("All {replicas} replicas start together; {fitting} of them would fit now.",),
    HoldCode.CPU_BUSY: (
        "It needs {cpus} of the CPU cores of {node}, to which it must return; {free_cpus} are free.",
        "It needs {cpus} of one node's CPU cores; the most that is free beside its GPUs is {free_cpus}.",
        "It needs {cpus} of one node's CPU cores; the most that one has left, beside what stays with free GPUs, is "
        "{spare_cpus}.",
    ),
    HoldCode.MEMORY_BUSY: (
        "It needs {memory_gib} GiB of the memory of {node}, to which it must return; {free_memory_gib} are free.",
        "It needs {memory_gib} GiB of memory on one node; the most that is free beside its GPUs and CPU cores is "
        "{free_memory_gib}.",
        "It needs {memory_gib} GiB of memory on one node; the most that one with its CPU cores has left, beside what "
        "stays with free GPUs, is {spare_memory_gib}.",
    ),
    HoldCode.TOPOLOGY: (
        "There is room for {replicas} replicas now, but not as close together as it asks: at most for {together}.",
    ),
    HoldCode.RESERVED: (
        "There is room for it on {node} now, but from {until_at} on that is kept for another job, and its time limit "
        "reaches beyond.",
    ),
    HoldCode.BOOKED: (
        "There is room for it on {node} now, but that is booked for {team} from {starts_at} to {ends_at}, and its time "
        "limit reaches into that.",
    ),
    HoldCode.PINNED: (
        "It is suspended on {node} and returns to its own GPUs: {busy} of {gpus} there are in use until {until_at} at "
        "the latest.",
        "It has been suspended on {node} since {suspended_at} and is given up: it begins anew.",
        "It is suspended on {node}, which takes no work now.",
    ),
    HoldCode.NEXT: ("What stood in its way went away a moment ago; it is looked at again in the next cycle.",),
}  # fmt: skip

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

_COUNTED = {
    "gpus": ("GPU", "GPUs"), "cards": ("GPU", "GPUs"), "stopping": ("job is", "jobs are"),
    "slices": ("compute slice", "compute slices"), "free_slices": ("compute slice", "compute slices"),
}  # fmt: skip
_RIGHTS = ("asked", "left", "over", "used", "limit")


@dataclass(frozen=True, slots=True)
class Names:
    """What ids are called, as far as the viewer may read it."""

    nodes: Mapping[int, str] = field(default_factory=dict)
    teams: Mapping[int, str] = field(default_factory=dict)


NOBODY_KNOWS = Names()


def sentence(code: str, numbers: Mapping[str, int], names: Names = NOBODY_KNOWS) -> str:
    """The sentence for a stored code and its numbers. Units become GPUs, thousandths cores, MiB GiB; a code or a number
    of another version gives no sentence."""
    try:
        sentences, words = SENTENCES[HoldCode(code)], _words(code, numbers, names)
    except (KeyError, ValueError):
        return ""
    for text in sentences:
        try:
            return text.format(**words)
        except KeyError:  # it is about other numbers
            continue
    return ""


def _words(code: str, numbers: Mapping[str, int], names: Names) -> dict[str, str]:
    words: dict[str, str] = {name: str(value) for name, value in numbers.items()}
    for name in ("cpu", "free_cpu", "spare_cpu"):
        if f"{name}_millis" in numbers:
            words[f"{name}s"] = _decimal(numbers[f"{name}_millis"] / 1000, 3)
    for name in ("memory", "free_memory", "spare_memory", "gpu_memory", "free_gpu_memory"):
        if f"{name}_mib" in numbers:
            words[f"{name}_gib"] = _decimal(numbers[f"{name}_mib"] / 1024, 2)
    for name in _RIGHTS:
        if name in numbers:
            words[name], words["unit"] = _decimal(numbers[name] / GPU_UNITS, 3), "GPUs"
        elif f"{name}_cpu_millis" in numbers:
            words[name], words["unit"] = _decimal(numbers[f"{name}_cpu_millis"] / 1000, 3), "CPU cores"
    for name in ("", "free_"):
        if f"{name}thousandths" in numbers:
            words[f"{name}share"] = f"{numbers[f'{name}thousandths'] / 10:g} %"
    for name in ("starts", "ends", "opens", "until", "suspended"):
        if name in numbers:
            words[f"{name}_at"] = f"{datetime.fromtimestamp(numbers[name], tz=UTC):%Y-%m-%d %H:%M} UTC"
    for name, (one, many) in _COUNTED.items():
        if name in numbers:
            words[name] = f"{numbers[name]} {one if numbers[name] == 1 else many}"
    if "node" in numbers:
        words["node"] = names.nodes.get(numbers["node"]) or f"node {numbers['node']}"
    if "team" in numbers:
        words["team"] = names.teams.get(numbers["team"]) or "another team"
    if "nodes" in numbers:
        words["nodes_closed"] = _closed(numbers["nodes"])
    if code == HoldCode.NEVER_FITS:
        words["lack"] = LACKS[Lack(numbers["lacks"])].format(**words)
    return words


def _decimal(value: float, places: int) -> str:
    """So many decimals where there are any: rounded to less, what is asked might read as no more than what is free."""
    return f"{value:.{places}f}".rstrip("0").rstrip(".")


def _closed(nodes: int) -> str:
    if not nodes:
        return "No node is here that takes"
    return (
        "The only node that could hold it takes no" if nodes == 1 else f"None of {nodes} nodes that could hold it takes"
    )
