"""What there is: machines with their cards, and the pools that they form."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instance:
    """A MIG instance that exists on a card: its profile name and its first memory slot."""

    profile: str
    start: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card. `island`: cards of a node with the same number reach each other over NVLink.

    `layout`: the MIG instances that exist now, held or free; empty for a card that is not cut. `mig`: the card may be
    cut (its pool allows it and the model is known to `mig`); without it a layout is there to stay.
    """

    id: int
    model: str = ""
    memory_mib: int = 0
    island: int = 0
    mig: bool = False
    layout: tuple[Instance, ...] = ()

    def may_be_cut(self, *, recut: bool) -> bool:
        """May its free parts be cut as the queue needs it? `recut`: as in Policy."""
        return recut and self.mig

    def stays_cut(self, *, recut: bool) -> bool:
        """Has somebody else cut it, for good? Then its instances are all that it has to offer."""
        return bool(self.layout) and not self.may_be_cut(recut=recut)


@dataclass(frozen=True, slots=True)
class Node:
    """One machine. `path`: its domains from the widest to the narrowest, as `Policy.levels` names them (block, rack).

    cpu_millis and memory_mib are what the whole machine offers to jobs; what is free follows from the runs.
    `reserved_*` is taken by something that is no job. `accepts`: ready for new work; a drained or silent node does
    not, and its cards no longer count as capacity except where somebody still holds them. `draining`: it is being
    emptied (and accepts nothing), so whatever is suspended there leaves as well. `out_of_order`: further cards that
    the machine has and that nobody may use, not among `gpus`.
    """

    id: int
    name: str
    pool: str
    cpu_millis: int
    memory_mib: int
    gpus: tuple[Gpu, ...] = ()
    accepts: bool = True
    labels: tuple[tuple[str, str], ...] = ()
    path: tuple[str, ...] = ()
    reserved_cpu_millis: int = 0
    reserved_memory_mib: int = 0
    draining: bool = False
    out_of_order: int = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """Nodes with the same kind of accelerator. A pool without GPUs counts thousandths of a core as its units.

    `reference_*`: the node by which CPU and memory are turned into GPUs for the charge; 0 GPUs: the GPUs alone count.
    """

    name: str
    reference_gpus: int = 0
    reference_cpu_millis: int = 0
    reference_memory_mib: int = 0


def reference_flaw(reference: tuple[int, int, int], *, gpu_pool: bool) -> tuple[str, str] | None:
    """(`gpus` or `cpus`, what is wrong): a reference node (GPUs, CPU, memory) by which nothing, or nonsense, would be
    charged. All 0 is none, and right."""
    gpus, cpu, memory = reference
    if not (gpus or cpu or memory):
        return None
    if gpu_pool and not gpus:
        return "gpus", "the reference node of a pool with GPUs has some"
    if not gpu_pool and gpus:
        return "gpus", "a pool without GPUs counts cores: its reference node has CPU cores and memory only"
    if gpu_pool and not (cpu or memory):
        return "cpus", "GPUs count in any case; say the CPU cores or the memory that come with them"
    if not gpu_pool and not (cpu and memory):
        return "cpus", "memory is counted as the cores that come with it; say both"
    return None
