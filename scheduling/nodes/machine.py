"""What this machine says of itself below /proc and /sys: disk, InfiniBand ports, NUMA nodes, labels.

Where it does not say, the answer stays unknown. `root` is / but in tests.
"""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import yaml

from scheduling.nodes.driver import GpuInfo, InfinibandPort, Inventory

MIB = 2**20
#: the name space that Node Feature Discovery puts before names without one
NFD_PREFIX = "feature.node.kubernetes.io/"
_LABEL = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*/)?[A-Za-z0-9][-A-Za-z0-9_.]{0,62}")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")


class BadLabels(Exception):
    """The file of labels cannot be used; the message names file and line."""


class Machine:
    """Adds to a driver's inventory. volumes: a folder on the file system whose size counts. labels: a file of them."""

    def __init__(self, *, volumes: Path, labels: Path | None = None, root: Path = Path("/")) -> None:
        self._volumes = volumes
        self._labels = labels
        self._root = root

    def describe(self, inventory: Inventory) -> Inventory:
        """The same with all that this machine says. A file of labels that cannot be read becomes a note."""
        notes, labels = inventory.notes, inventory.labels
        if self._labels is not None:
            try:
                labels = read_labels(self._labels)
            except BadLabels as error:
                notes = (*notes, str(error))
        disk, free = disk_mib(self._volumes)
        return replace(
            inventory,
            notes=notes,
            labels=labels,
            disk_mib=disk,
            disk_free_mib=free,
            infiniband=infiniband_ports(self._root),
            gpus=tuple(self._place(gpu) for gpu in inventory.gpus),
        )

    def _place(self, gpu: GpuInfo) -> GpuInfo:
        if gpu.pci_bus_id is None or gpu.numa_node is not None:
            return gpu
        # NVML writes eight digits of domain, the kernel four.
        domain, _, rest = gpu.pci_bus_id.lower().partition(":")
        return replace(gpu, numa_node=_numa(self._root / "sys/bus/pci/devices" / f"{domain[-4:]}:{rest}"))


def disk_mib(folder: Path) -> tuple[int | None, int | None]:
    """(size, free) of the file system that `folder` is or will be on; None, None if it does not say."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None, None
    return usage.total // MIB, usage.free // MIB


def infiniband_ports(root: Path = Path("/")) -> tuple[InfinibandPort, ...]:
    """Every port of every device below /sys/class/infiniband, by device and number."""
    found = []
    for ports in sorted((root / "sys/class/infiniband").glob("*/ports")):
        device = ports.parent
        for port in sorted((path for path in ports.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)):
            found.append(
                InfinibandPort(
                    device=device.name,
                    port=int(port.name),
                    # "4: ACTIVE": the number is the kernel's own
                    state=_line(port / "state").partition(":")[2].strip() or "unknown",
                    link_layer=_line(port / "link_layer") or "unknown",
                    rate=_line(port / "rate"),
                    numa_node=_numa(device / "device"),
                )
            )
    return tuple(found)


def _numa(device: Path) -> int | None:
    text = _line(device / "numa_node")
    return int(text) if text.isdigit() else None  # -1: the machine has no such thing, or does not say


def _line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def read_labels(path: Path) -> tuple[tuple[str, str], ...]:
    """Labels by name, from either of two formats of Node Feature Discovery. Raises BadLabels.

    A file of its features.d has one `name=value` per line, `name` alone meaning true, and # before comments; a
    NodeFeature or Node object is YAML or JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadLabels(f"The labels in {path} cannot be read ({error}).") from error
    labels = _labels_of_object(path, text) if re.search(r"^\s*(\{|kind:|apiVersion:)", text, re.MULTILINE) else None
    if labels is None:
        labels = _labels_of_lines(path, text)
    for name, value in labels.items():
        if not _LABEL.fullmatch(name) or not _VALUE.fullmatch(value) or len(value) > 63:
            raise BadLabels(f"{path}: '{name}={value}' cannot be a label.")
    return tuple(sorted(labels.items()))


def _labels_of_object(path: Path, text: str) -> dict[str, str]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadLabels(f"{path} is neither lines of labels nor YAML ({str(error).splitlines()[0]}).") from error
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind not in ("NodeFeature", "Node"):
        raise BadLabels(f"{path} is a '{kind}'; labels are read from a NodeFeature or a Node.")
    inside = document.get("spec" if kind == "NodeFeature" else "metadata") or {}
    labels = inside.get("labels") if isinstance(inside, dict) else None
    if not isinstance(labels, dict):
        raise BadLabels(f"{path} has no labels where a {kind} has them.")
    return {str(name): str(value) for name, value in labels.items()}


def _labels_of_lines(path: Path, text: str) -> dict[str, str]:
    labels = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, given, value = line.partition("=")
        if not name.strip():
            raise BadLabels(f"{path}, line {number}: '{line[:60]}' has no name.")
        name = name.strip()
        labels[name if "/" in name else NFD_PREFIX + name] = value.strip() if given else "true"
    return labels
