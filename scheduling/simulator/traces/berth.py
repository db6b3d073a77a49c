"""Berth's own trace format: a CSV with a header; most columns may be left out or empty (docs/simulator.md)."""

from collections.abc import Iterator
from pathlib import Path

from scheduling.core.cluster import Need
from scheduling.simulator.traces.job import WHOLE, TraceJob
from scheduling.simulator.traces.problems import Problems
from scheduling.simulator.traces.rows import Row, shown, table
from scheduling.simulator.traces.stream import jobs

REQUIRED = frozenset({"id", "submit_s", "duration_s", "team", "gpus"})
KNOWN = frozenset(TraceJob.__dataclass_fields__) - {"line"}


def read(path: Path, problems: Problems) -> Iterator[TraceJob]:
    return jobs(table(path, required=REQUIRED, known=KNOWN), _job, problems, submit="submit_s")


def _job(row: Row) -> TraceJob:
    gpus = row.integer("gpus")
    part = row.integer("gpu_thousandths", least=1, default=WHOLE)
    if part > WHOLE:
        raise row.bad("gpu_thousandths", f"{part} is more than a whole GPU")
    if part < WHOLE and gpus > 1:
        raise row.bad("gpu_thousandths", f"{part} of each of {gpus} GPUs: a fraction is of one GPU")
    mig = row.text("mig", "")
    if mig and (gpus != 1 or part < WHOLE):
        raise row.bad(
            "mig", "a replica has one instance: gpus is 1, without thousandths; more instances are more replicas"
        )
    return TraceJob(
        id=row.text("id"),
        submit_s=row.integer("submit_s"),
        duration_s=row.optional_integer("duration_s"),
        gpus=gpus,
        gpu_thousandths=part,
        replicas=row.integer("replicas", least=1, default=1),
        limit_s=row.optional_integer("limit_s", least=1),
        team=row.text("team"),
        user=row.text("user", ""),
        tier=row.text("tier", ""),
        priority=row.integer("priority", least=-(10**6), default=0),
        cpu_millis=row.integer("cpu_millis", default=0),
        memory_mib=row.integer("memory_mib", default=0),
        gpu_memory_mib=row.integer("gpu_memory_mib", default=0),
        mig=mig,
        models=row.names("models"),
        pools=row.names("pools"),
        topology_required=row.text("topology_required", ""),
        topology_preferred=row.text("topology_preferred", ""),
        needs=_needs(row),
        deadline_s=row.optional_integer("deadline_s"),
        not_before_s=row.optional_integer("not_before_s"),
        preemptible=row.boolean("preemptible", True),
        suspendable=row.boolean("suspendable", False),
        min_runtime_s=row.integer("min_runtime_s", default=0),
        saved_mib=row.integer("saved_mib", default=0),
    )


def _needs(row: Row) -> tuple[Need, ...]:
    """`zone=a|b; ib; !old; !disk=slow`: the label zone is a or b, there is a label ib, none named old, and disk is not
    slow."""
    needs = []
    for part in filter(None, (part.strip() for part in row.text("needs", "").split(";"))):
        key, given, values = part.removeprefix("!").partition("=")
        named = tuple(dict.fromkeys(filter(None, (value.strip() for value in values.split("|")))))
        if not key.strip() or (given and not named):
            raise row.bad("needs", f"{shown(part)} is not a label such as zone=a|b, ib or !old")
        needs.append(Need(key.strip(), named, part.startswith("!")))
    return tuple(needs)
