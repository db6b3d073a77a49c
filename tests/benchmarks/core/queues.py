"""The queues that `make bench-core` plans, from seeded random numbers.

The Slurm-like queue is the one that a Slurm 22.05 controller needed 42 s (64 nodes) and about 270 s (512 nodes) for
in one backfill cycle: every node full until some time in the next 10 hours, 5,000 jobs waiting: 70 % one GPU, 10 %
two, 8 % four, 8 % a whole node, 4 % two to eight whole nodes, limits from 5 minutes to 48 hours.
"""

import math
from dataclasses import replace
from random import Random

from scheduling.core.cluster import Ask, Cluster, Gpu, Node, Part, Piece, Quota, Run, Shape, Team
from scheduling.core.units import GPU_UNITS

NOW = 1_000_000
GPUS = 8


def nodes(count: int, cpus: int = 64) -> tuple[Node, ...]:
    return tuple(
        Node(
            id=n,
            name=f"n{n:04d}",
            pool="gpu",
            cpu_millis=cpus * 1000,
            memory_mib=512_000,
            path=(f"b{n // 64}", f"r{n // 16}"),
            gpus=tuple(Gpu(id=n * GPUS + g, model="H100", memory_mib=81_920, island=0) for g in range(GPUS)),
        )
        for n in range(1, count + 1)
    )


def whole_node(node: Node, job: int, limit_s: int, team: int = 1) -> Run:
    pieces = tuple(Piece(gpu.id, GPU_UNITS) for gpu in node.gpus)
    wish = Ask(job, team, 1, Shape(gpus=GPUS, cpu_millis=node.cpu_millis), NOW - 100, limit_s, preemptible=False)
    return Run(wish, (Part(node.id, pieces, node.cpu_millis, 0),), held_at=NOW - 100, running_at=NOW - 100)


def slurm_like(node_count: int, waiting: int = 5000) -> Cluster:
    random = Random(7)
    machines = nodes(node_count)
    runs = tuple(whole_node(node, node.id, 60 * (30 + (node.id * 37) % 600)) for node in machines)
    asks = []
    for n in range(waiting):
        draw, limit = random.random(), 60 * int(5 * math.exp(random.random() * 6.35))
        if draw < 0.70:
            shape = Shape(gpus=1, cpu_millis=4000)
        elif draw < 0.80:
            shape = Shape(gpus=2, cpu_millis=8000)
        elif draw < 0.88:
            shape = Shape(gpus=4, cpu_millis=16_000)
        elif draw < 0.96:
            shape = Shape(gpus=8, cpu_millis=32_000)
        else:
            shape = Shape(gpus=8, cpu_millis=64_000, replicas=2 ** (1 + int(random.random() * 3)))
        asks.append(Ask(100_000 + n, 1, 1, shape, NOW - waiting + n, limit, preemptible=False))
    return Cluster(nodes=machines, asks=tuple(asks), runs=runs)


def mixed(node_count: int, waiting: int, *, seed: int = 1, teams: int = 20, users: int = 10) -> Cluster:
    """Twenty teams in four departments with guarantees of 80 % together, ten people each; every node busy but for a few
    cards; waiting jobs of every kind: sizes, tiers, gangs, CPU and memory drawn at random for half of them."""
    random = Random(seed)
    machines = nodes(node_count, cpus=128)
    share = 80_000 // teams
    tree = [Team(100 + d, f"dept{d}", quotas=(Quota("gpu", percent_milli=share * teams // 4),)) for d in range(4)]
    tree += [
        Team(1 + t, f"team{t}", parent=100 + t % 4, quotas=(Quota("gpu", percent_milli=share, weight=1 + t % 3),))
        for t in range(teams)
    ]
    runs, job = [], 1
    for node in machines:
        place = 0
        while place < GPUS:
            size = random.choice((1, 1, 2, 4, 8))
            if place + size > GPUS or (size == 1 and random.random() < 0.02):
                place += 1
                continue
            wish = a_wish(random, job, Shape(gpus=size, cpu_millis=4000 * size, memory_mib=8192 * size), teams, users)
            pieces = tuple(Piece(gpu.id, GPU_UNITS) for gpu in node.gpus[place : place + size])
            since = NOW - random.randrange(100, 20_000)
            runs.append(Run(wish, (Part(node.id, pieces, 4000 * size, 8192 * size),), held_at=since, running_at=since))
            place += size
            job += 1
    asks = tuple(a_wish(random, 1_000_000 + n, a_shape(random), teams, users) for n in range(waiting))
    return Cluster(nodes=machines, asks=asks, runs=tuple(runs), teams=tuple(tree))


def a_shape(random: Random) -> Shape:
    """Half of them ask for CPU and memory of their own, and not by the card."""
    size = random.choice((1, 1, 1, 1, 2, 2, 4, 8))
    replicas = random.choice((1, 1, 1, 1, 1, 1, 2, 4)) if size == GPUS else 1
    if random.random() < 0.5:
        return Shape(gpus=size, cpu_millis=4000 * size, memory_mib=8192 * size, replicas=replicas)
    cpu, memory = random.randrange(1000, 12_000, 500) * size, random.randrange(1024, 32_768, 512) * size
    return Shape(gpus=size, cpu_millis=cpu, memory_mib=memory, replicas=replicas)


def a_wish(random: Random, job: int, shape: Shape, teams: int, users: int) -> Ask:
    team = 1 + random.randrange(teams)
    tier = random.choice(("production", "normal", "normal", "batch", "batch"))
    limit = 60 * int(5 * math.exp(random.random() * 6.35)) + 20_000 * (job < 1_000_000)
    return Ask(
        job, team, team * 1000 + random.randrange(users), shape, NOW - random.randrange(100_000), limit, tier=tier
    )


def full(node_count: int, waiting: int) -> Cluster:
    """Every card taken by whole-node runs of twenty teams without quotas; jobs of mixed shapes wait."""
    random = Random(3)
    machines = nodes(node_count, cpus=128)
    runs = tuple(whole_node(n, n.id, 60 * (30 + (n.id * 37) % 600), 1 + n.id % 20) for n in machines)
    asks = tuple(a_wish(random, 1_000_000 + n, a_shape(random), 20, 10) for n in range(waiting))
    return Cluster(nodes=machines, asks=tuple(replace(ask, preemptible=False) for ask in asks), runs=runs)
