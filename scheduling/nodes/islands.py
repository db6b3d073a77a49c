"""Which cards of a machine reach each other over NVLink, from what each says that its links lead to. Pure."""

from collections.abc import Sequence

from scheduling.nodes.driver import GpuInfo

#: what a card says of a far end that it is not shown, as that of a switch in a virtual machine
_HIDDEN = "hidden"


def islands_of(gpus: Sequence[GpuInfo]) -> dict[str, int]:
    """UUID -> number of its island: one more than the lowest index among its cards; 0 for a card that does not say.

    Cards are of one island if they are linked to each other, or to the same switch, or to one of which both are not
    shown the address: what is hidden from a machine is the switch that its cards share. A card without links is an
    island of its own.
    """
    names: dict[str, str] = {}  # island by union-find: each name's parent

    def root(name: str) -> str:
        while names.setdefault(name, name) != name:
            name = names[name]
        return name

    for gpu in gpus:
        for end, links in gpu.nvlinks or ():
            if links > 0:
                names[root(_end(end))] = root(_own(gpu))
    islands: dict[str, int] = {}
    lowest: dict[str, int] = {}
    for gpu in sorted(gpus, key=lambda gpu: (gpu.index, gpu.uuid)):
        number = lowest.setdefault(root(_own(gpu)), gpu.index + 1)
        islands[gpu.uuid] = 0 if gpu.nvlinks is None else number
    return islands


def _own(gpu: GpuInfo) -> str:
    return (gpu.pci_bus_id or gpu.uuid).lower()


def _end(bus_id: str) -> str:
    text = bus_id.lower()
    return _HIDDEN if text == "unknown" or text.startswith("ffffffff") else text
