"""Alibaba's cluster-trace-gpu-v2023 (openb): pods, nodes, and the order in which pods arrive."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scheduling.simulator.traces.job import WHOLE, TraceJob
from scheduling.simulator.traces.problems import BadTrace, Problems
from scheduling.simulator.traces.rows import Row, table
from scheduling.simulator.traces.stream import jobs

PODS = frozenset({"name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli"})
TIMES = frozenset({"creation_time", "deletion_time", "scheduled_time"})
NODES = frozenset({"sn", "cpu_milli", "memory_mib", "gpu", "model"})
PREFIX = "openb-pod-"
#: what a file calls the things of a job, for messages
CALLED = {"gpus": "num_gpu", "gpu_thousandths": "gpu_milli", "models": "gpu_spec", "cpu_millis": "cpu_milli",
          "team": "name"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TraceNode:
    name: str
    gpus: int
    model: str
    cpu_millis: int
    memory_mib: int


def read(path: Path, problems: Problems) -> Iterator[TraceJob]:
    """Pods by their own times: from creation on, for as long as they were scheduled."""

    def make(row: Row) -> TraceJob:
        created, deleted = row.integer("creation_time"), row.integer("deletion_time")
        began = row.integer("scheduled_time", default=created)
        if deleted < began:
            raise row.bad("deletion_time", f"{deleted} is before scheduled_time {began}: the duration is negative")
        return replace(_pod(row), submit_s=created, duration_s=deleted - began)

    return jobs(table(path, required=PODS | TIMES), make, problems, submit="creation_time")


def read_in_order(pods: Path, order: Path, seed: str, problems: Problems) -> Iterator[TraceJob]:
    """Arrivals only: the pods in the order of the column `seed`, one per second, none ever ends. A pod that is named
    again is a clone with the same ask."""
    by_number: dict[str, TraceJob] = {}
    for row in table(pods, required=PODS):
        try:
            pod = _pod(row)
            if pod.id in by_number:
                raise row.bad("name", f"{pod.id!r} appeared before")
        except BadTrace as problem:
            problems.bad(problem)
            continue
        by_number[pod.id] = replace(pod, line=row.line)
    clones: Counter[str] = Counter()
    for arrival, row in enumerate(table(order, required=frozenset({seed}))):
        name = row.text(seed, "")
        if not name:
            continue
        if name not in by_number:
            problems.bad(row.bad(seed, f"{pods.name} has no pod {PREFIX}{name}"))
            continue
        clones[name] += 1
        copy = f"{name}+{clones[name] - 1}" if clones[name] > 1 else name
        yield replace(by_number[name], id=copy, submit_s=arrival)


def read_nodes(path: Path) -> tuple[TraceNode, ...]:
    return tuple(
        TraceNode(
            name=row.text("sn"),
            gpus=row.integer("gpu"),
            model=row.text("model", ""),
            cpu_millis=row.integer("cpu_milli"),
            memory_mib=row.integer("memory_mib"),
        )
        for row in table(path, required=NODES)
    )


def _pod(row: Row) -> TraceJob:
    gpus, part = row.integer("num_gpu"), row.integer("gpu_milli")
    if part > WHOLE:
        raise row.bad("gpu_milli", f"{part} is more than a whole GPU")
    if gpus and not part:
        raise row.bad("gpu_milli", "a pod with GPUs asks for none of them")
    if gpus > 1 and part < WHOLE:
        raise row.bad("gpu_milli", f"{part} of each of {gpus} GPUs: a fraction is of one GPU")
    return TraceJob(
        id=row.text("name").removeprefix(PREFIX),
        submit_s=0,
        duration_s=None,
        gpus=gpus,
        gpu_thousandths=part if gpus else WHOLE,
        cpu_millis=row.integer("cpu_milli"),
        memory_mib=row.integer("memory_mib"),
        models=row.names("gpu_spec"),
    )
