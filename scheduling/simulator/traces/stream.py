"""What holds for every format: rows become jobs, each id comes once, time never runs backwards."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from scheduling.simulator.traces.job import TraceJob
from scheduling.simulator.traces.problems import BadTrace, Problems
from scheduling.simulator.traces.rows import Row


def jobs(
    rows: Iterable[Row], make: Callable[[Row], TraceJob | None], problems: Problems, *, submit: str
) -> Iterator[TraceJob]:
    """Jobs in the order of the file. `make` returns None for lines that are not jobs, having said why to `problems`.
    `submit`: what the format calls the time of submission.

    A missing column or an unreadable file ends the reading even with skip_bad: then every line is bad.
    """
    seen: set[str] = set()
    latest = None
    for row in rows:
        try:
            if "\0" in row.values:
                raise row.bad("", row.values["\0"])
            job = make(row)
            if job is None:
                continue
            if job.id in seen:
                raise row.bad("id", f"{job.id!r} appeared before")
            if latest is not None and job.submit_s < latest:
                raise row.bad(submit, f"{job.submit_s} is before {latest}, the line above: times must not go back")
        except BadTrace as problem:
            problems.bad(problem)
            continue
        seen.add(job.id)
        latest = job.submit_s
        yield replace(job, line=row.line)
