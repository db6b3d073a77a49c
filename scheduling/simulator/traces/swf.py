"""The Standard Workload Format of the Parallel Workloads Archive: 18 numbers a line, -1 = unknown, `;` = remark."""

from collections.abc import Iterator
from pathlib import Path

from scheduling.simulator.traces.job import TraceJob
from scheduling.simulator.traces.problems import Problems
from scheduling.simulator.traces.rows import Row, text_lines
from scheduling.simulator.traces.stream import jobs

FIELDS = (
    "job number", "submit time", "wait time", "run time", "allocated processors", "average CPU time", "used memory",
    "requested processors", "requested time", "requested memory", "status", "user", "group", "executable", "queue",
    "partition", "preceding job", "think time",
)  # fmt: skip
UNKNOWN = -1
#: what a file calls the things of a job, for messages
CALLED = {"gpus": "requested processors", "replicas": "requested processors", "cpu_millis": "requested processors",
          "memory_mib": "requested memory", "team": "group"}  # fmt: skip


def read(
    path: Path, problems: Problems, *, processors_are_gpus: bool = False, node_gpus: int = 8
) -> Iterator[TraceJob]:
    """A processor is a CPU core (one replica each, wherever there is one), or a GPU where the caller says so: then a
    job is packed on one node, a larger one takes whole nodes. Without a run time it never ran: passed over."""

    def make(row: Row) -> TraceJob | None:
        submit = row.integer("submit time")
        ran = row.integer("run time", least=UNKNOWN)
        if ran == UNKNOWN:
            problems.pass_over("never ran (run time -1)")
            return None
        processors = _known(row, "requested processors") or _known(row, "allocated processors")
        if not processors and not ran:
            problems.pass_over("never ran (no processors, run time 0)")
            return None
        if not processors:
            raise row.bad("requested processors", "neither requested nor allocated processors are known")
        memory_kib = _known(row, "requested memory") or 0
        job = TraceJob(
            id=row.text("job number"),
            submit_s=submit,
            duration_s=ran,
            limit_s=_known(row, "requested time") or None,
            team=_name(row, "group"),
            user=_name(row, "user"),
            replicas=processors,
            cpu_millis=1000,
            memory_mib=-(-memory_kib // 1024),
        )
        return _on_gpus(job, processors, node_gpus) if processors_are_gpus else job

    return jobs(_rows(path), make, problems, submit="submit time")


def _rows(path: Path) -> Iterator[Row]:
    for number, line in text_lines(path):
        values = line.split()
        if not values or values[0].startswith(";"):
            continue
        row = Row(str(path), number, dict(zip(FIELDS, values, strict=False)))
        if len(values) != len(FIELDS):
            row.values["\0"] = f"has {len(values)} fields, the format {len(FIELDS)}"
        yield row


def _known(row: Row, column: str) -> int | None:
    value = row.integer(column, least=UNKNOWN)
    return None if value == UNKNOWN else value


def _name(row: Row, column: str) -> str:
    value = _known(row, column)
    return "" if value is None else f"{column} {value}"


def _on_gpus(job: TraceJob, gpus: int, node_gpus: int) -> TraceJob:
    nodes = -(-gpus // node_gpus)
    return TraceJob(
        id=job.id,
        submit_s=job.submit_s,
        duration_s=job.duration_s,
        limit_s=job.limit_s,
        team=job.team,
        user=job.user,
        replicas=nodes,
        gpus=gpus if nodes == 1 else node_gpus,
    )
