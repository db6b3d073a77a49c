"""Slurm's accounting: `sacct --parsable2 --allusers --format=JobID,Submit,Start,End,…`. Columns in any order.

Needed: JobID, Submit, and either ElapsedRaw, Elapsed, or Start and End; AllocTRES or ReqTRES for what the job held.
Used when there: NNodes, TimelimitRaw (minutes) or Timelimit, Account (team), User, QOS (tier). Partitions are Slurm's
walls, not pools: here teams carry the walls.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from scheduling.simulator.traces.job import TraceJob
from scheduling.simulator.traces.problems import BadTrace, Problems
from scheduling.simulator.traces.rows import Row, shown, table
from scheduling.simulator.traces.stream import jobs

NOT_KNOWN = frozenset({"", "Unknown", "None", "N/A", "INVALID"})
NO_LIMIT = frozenset({"UNLIMITED", "Partition_Limit", *NOT_KNOWN})
_MIB = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024, "P": 1024.0**3}
_SPAN = re.compile(r"(?:([0-9]{1,9})-)?(?:(?:([0-9]{1,9}):)?([0-9]{1,9}):)?([0-9]{1,9})(?:\.[0-9]+)?")
WAY = "sacct --parsable2 --format=JobID,Submit,ElapsedRaw,AllocTRES,NNodes,TimelimitRaw,Account,User,QOS"
_MEMORY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([KMGTP]?)[nc]?")
#: what a file calls the things of a job, for messages
CALLED = {"gpus": "AllocTRES", "models": "AllocTRES", "cpu_millis": "AllocTRES", "memory_mib": "AllocTRES",
          "replicas": "NNodes", "team": "Account", "tier": "QOS"}  # fmt: skip


def read(path: Path, problems: Problems) -> Iterator[TraceJob]:
    """Job steps (`812.batch`) belong to their job, and jobs that never started held nothing: both are passed over."""
    rows = table(path, required=frozenset({"JobID", "Submit"}), mark="|", quoted=False, check=_check_columns)

    def make(row: Row) -> TraceJob | None:
        name = row.text("JobID")
        if "." in name:
            problems.pass_over("job steps")
            return None
        duration = _duration(row)
        if not duration:
            problems.pass_over("never ran")
            return None
        return _job(row, name, duration)

    return jobs(rows, make, problems, submit="Submit")


def _check_columns(file: str, header: Sequence[str]) -> None:
    """One of several columns will do: say so at once, rather than fail on every line."""
    there = set(header)
    if not ({"ElapsedRaw", "Elapsed"} & there or {"Start", "End"} <= there):
        half = "".join(f" ({name} alone does not)" for name in ("Start", "End") if name in there)
        what = f"how long a job ran{half}; let sacct print ElapsedRaw, or Elapsed, or Start and End"
        raise BadTrace(file, 1, "ElapsedRaw", f"the column is missing, and no other says {what}: {WAY}")
    if not {"ReqTRES", "AllocTRES"} & there:
        what = "what a job held; let sacct print AllocTRES, or ReqTRES"
        raise BadTrace(file, 1, "AllocTRES", f"the column is missing, and no other says {what}: {WAY}")


def _job(row: Row, name: str, duration: int) -> TraceJob:
    held = _tres(row)
    nodes = max(1, row.integer("NNodes", default=_number(row, held.get("node", "") or "1")))
    gpus = _number(row, held.get("gres/gpu", "0"))
    if gpus % nodes:
        # Uneven over its nodes: one replica a GPU is the only equal split, and holds exactly what the job held.
        nodes = gpus
    return TraceJob(
        id=name,
        submit_s=_moment(row, "Submit"),
        duration_s=duration,
        limit_s=_limit(row),
        team=row.text("Account", ""),
        user=row.text("User", ""),
        tier=row.text("QOS", ""),
        replicas=nodes,
        gpus=gpus // nodes,
        models=tuple(key.removeprefix("gres/gpu:") for key in held if key.startswith("gres/gpu:")),
        cpu_millis=_number(row, held.get("cpu", "0")) * 1000 // nodes,
        memory_mib=_memory(row, held.get("mem", "0")) // nodes,
    )


def _tres(row: Row) -> dict[str, str]:
    """`cpu=8,mem=64G,node=1,gres/gpu=2` as a mapping; what was held, or asked where that is not recorded."""
    text = row.text("AllocTRES", "") or row.text("ReqTRES", "")
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {key: value for key, _, value in pairs}


def _number(row: Row, value: str) -> int:
    return row.as_integer("AllocTRES", value, least=0)


def _memory(row: Row, value: str) -> int:
    found = _MEMORY.fullmatch(value)
    if not found:
        raise row.bad("AllocTRES", f"mem={shown(value)} is not an amount of memory")
    return int(float(found[1]) * _MIB[found[2]])


def _moment(row: Row, column: str) -> int:
    """Seconds since 1970. Slurm writes local time without a zone; it is read as UTC, only differences matter."""
    value = row.text(column)
    if value.isdecimal():
        return row.as_integer(column, value, least=0)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise row.bad(column, f"{shown(value)} is not a time such as 2024-05-17T09:30:00") from None
    seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    if seconds < 0:
        raise row.bad(column, f"{shown(value)} is before 1970")
    return seconds


def _duration(row: Row) -> int | None:
    if row.values.get("ElapsedRaw", ""):
        return row.integer("ElapsedRaw")
    if row.values.get("Elapsed", ""):
        return _span(row, "Elapsed")
    if row.values.get("Start", "") in NOT_KNOWN or row.values.get("End", "") in NOT_KNOWN:
        return None
    start, end = _moment(row, "Start"), _moment(row, "End")
    if end < start:
        raise row.bad("End", f"{row.text('End')} is before Start {row.text('Start')}: the duration is negative")
    return end - start


def _span(row: Row, column: str) -> int:
    """Slurm's `days-hours:minutes:seconds`, where days and hours may be missing."""
    found = _SPAN.fullmatch(row.text(column))
    if not found:
        raise row.bad(column, f"{shown(row.text(column))} is not a time span such as 1-02:30:00")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _limit(row: Row) -> int | None:
    raw = row.values.get("TimelimitRaw", "").strip()
    if raw not in NO_LIMIT:
        return row.as_integer("TimelimitRaw", raw, least=0) * 60 or None
    if row.values.get("Timelimit", "").strip() not in NO_LIMIT:
        return _span(row, "Timelimit") or None
    return None
