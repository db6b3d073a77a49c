"""Worlds that can be seen: `cluster("n1 aa.. | n2 bbbb")` has two nodes of four GPUs; a dot is free, a letter a job.

The same letter is one job, with a part on each node that it is drawn on. Letters are jobs 1001 (a), 1002 (b) …
"""

from dataclasses import replace

from scheduling.core.cluster import Ask, Cluster, Gpu, Node, Part, Piece, Run, Shape, Team
from scheduling.core.units import GPU_UNITS

CPU_PER_NODE = 16_000
MEMORY_PER_NODE = 64 * 1024
LIMIT = 3600


def letter(mark: str) -> int:
    """The job that a letter stands for."""
    return 1001 + ord(mark) - ord("a")


def cluster(
    picture: str,
    *asks: Ask,
    runs: tuple[Run, ...] = (),
    teams: tuple[Team, ...] = (),
    free_cpu: int | None = None,
    free_memory: int | None = None,
    drawn: dict[str, Ask] | None = None,
    since: int = 1,
) -> Cluster:
    """Nodes from a picture; `!` after a name: the node accepts no work. `drawn`: what the letters asked for. Letters
    hold GPUs only, so that CPU and memory stay as the test says."""
    nodes, parts, gpu_id = [], {}, 0
    for number, drawing in enumerate(picture.split("|"), start=1):
        name, _, marks = drawing.strip().partition(" ")
        gpus = []
        for mark in marks.replace(" ", ""):
            gpu_id += 1
            gpus.append(Gpu(id=gpu_id, memory_mib=81_920))
            if mark != ".":
                parts.setdefault(mark, {}).setdefault(number, []).append(Piece(gpu_id, GPU_UNITS))
        nodes.append(
            Node(
                id=number,
                name=name.rstrip("!"),
                pool="gpu",
                accepts=not name.endswith("!"),
                cpu_millis=CPU_PER_NODE,
                memory_mib=MEMORY_PER_NODE,
                gpus=tuple(gpus),
                reserved_cpu_millis=0 if free_cpu is None else CPU_PER_NODE - free_cpu,
                reserved_memory_mib=0 if free_memory is None else MEMORY_PER_NODE - free_memory,
            )
        )
    for mark, held in sorted(parts.items()):
        wish = (drawn or {}).get(mark, ask(letter(mark), gpus=1, team=99))
        places = tuple(Part(node, tuple(pieces)) for node, pieces in sorted(held.items()))
        runs += (Run(ask=replace(wish, job=letter(mark)), parts=places, held_at=since, running_at=since, since=since),)
    return Cluster(nodes=tuple(nodes), asks=asks, runs=runs, teams=teams)


def ask(
    job: int,
    *,
    gpus: int = 0,
    cpu: int = 1000,
    memory: int = 1024,
    replicas: int = 1,
    team: int = 1,
    user: int = 1,
    limit: int = LIMIT,
    **more,
) -> Ask:
    """A waiting job; jobs with smaller numbers were submitted earlier. Further names go to the Shape or to the Ask."""
    of_shape = {name: more.pop(name) for name in list(more) if name in Shape.__dataclass_fields__}
    shape = Shape(gpus=gpus, cpu_millis=cpu, memory_mib=memory, replicas=replicas, **of_shape)
    return Ask(job=job, team=team, user=user, shape=shape, submitted=job, limit_s=limit, **more)


def gpu_nodes(outcome, job: int) -> list[tuple[int, int]]:
    """(node, GPUs) of each part of a placed job."""
    return next([(part.node, len(part.pieces)) for part in place.parts] for place in outcome.places if place.job == job)
