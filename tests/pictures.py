"""Worlds that can be seen: `cluster("n1 aa.. | n2 bbbb")` has two nodes of four GPUs; a dot is free, a letter a job."""

from scheduling.core.cluster import Ask, Cluster, Node, Run, Slot
from scheduling.core.units import GPU_UNITS

CPU_PER_NODE = 16_000
MEMORY_PER_NODE = 64 * 1024


def cluster(
    picture: str, *asks: Ask, runs: tuple[Run, ...] = (), free_cpu: int | None = None, free_memory: int | None = None
) -> Cluster:
    """Nodes from a picture; `!` after a name means that the node accepts no work."""
    nodes, slot_id = [], 0
    for number, drawing in enumerate(picture.split("|"), start=1):
        name, _, marks = drawing.strip().partition(" ")
        slots = []
        for mark in marks.replace(" ", ""):
            slot_id += 1
            slots.append(Slot(id=slot_id, gpu=slot_id, units=GPU_UNITS, held=mark != "."))
        nodes.append(
            Node(
                id=number,
                name=name.rstrip("!"),
                pool="gpu",
                accepts=not name.endswith("!"),
                cpu_millis=CPU_PER_NODE,
                memory_mib=MEMORY_PER_NODE,
                free_cpu_millis=CPU_PER_NODE if free_cpu is None else free_cpu,
                free_memory_mib=MEMORY_PER_NODE if free_memory is None else free_memory,
                slots=tuple(slots),
            )
        )
    return Cluster(nodes=tuple(nodes), asks=asks, runs=runs)


def ask(job: int, *, gpus: int = 0, cpu: int = 1000, memory: int = 1024, replicas: int = 1) -> Ask:
    """A waiting job; jobs with smaller numbers were submitted earlier."""
    return Ask(
        job=job,
        version=1,
        team=1,
        owner=1,
        submitted=job,
        gpus=gpus,
        cpu_millis=cpu,
        memory_mib=memory,
        replicas=replicas,
    )
