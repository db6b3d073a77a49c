"""What the terminal shows: tables for people. Pure; nothing that came from elsewhere may steer the terminal."""

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any


def plain(text: object, *, lines: bool = False) -> str:
    """Without control characters and marks that turn the line; `lines`: line ends and tabs stay."""
    kept = "\n\t" if lines else ""
    return "".join(
        letter if letter in kept or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else "\ufffd"
        for letter in str(text)
    )


def table(rows: Sequence[Sequence[object]], *, head: Sequence[str]) -> str:
    """Aligned columns; numbers to the right."""
    cells = [list(head), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    numbers = [all(isinstance(row[column], int) for row in rows) and bool(rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in cells
    )


def jobs_table(jobs: Sequence[Mapping[str, Any]]) -> str:
    return table(
        [
            (job["id"], job["name"], job["team"], job["owner"], _state(job), job["gpus"] * job["replicas"],
             _moment(job["submitted_at"]), job["reason"] or _tasks(job))
            for job in jobs
        ],
        head=("ID", "NAME", "TEAM", "OWNER", "STATE", "GPUS", "SUBMITTED", "WHY"),
    )  # fmt: skip


def job_lines(job: Mapping[str, Any]) -> str:
    program = " ".join([*job["command"], *job["args"]]) if not job["script"] else "a script " + " ".join(job["args"])
    told = [
        ("job", f"{job['id']} {job['name']}"),
        ("state", _state(job)),
        ("reason", job["reason"]),
        ("tasks", _tasks(job)),
        ("team", f"{job['team']}, submitted by {job['owner']} {_moment(job['submitted_at'])}"),
        ("program", program),
        ("image", job["image"]),
        ("needs", f"{job['replicas']} x {job['gpus']} GPUs, {job['cpus']:g} cores, {job['memory_gib']:g} GiB"),
        ("limit", f"{job['time_limit']} s, tier {job['tier']}"),
        ("place", str(job["queue_place"] or "")),
        ("started", _moment(job["started_at"])),
        ("ended", _moment(job["ended_at"])),
        ("exit code", "" if job["exit_code"] is None else str(job["exit_code"])),
        *(("runs on", _place(place)) for place in job["places"]),
    ]
    lines = [f"{name:<10} {plain(value)}".rstrip() for name, value in told if value]
    if job["log_tail"]:
        lines += ["last lines", plain(job["log_tail"], lines=True).rstrip()]
    return "\n".join(lines)


def why_lines(told: Mapping[str, Any]) -> str:
    """As `manage.py why` says it."""
    lines = [("why", told["reason"])]
    if told["waits"]:
        expected = told["estimate"]
        basis = "from how long such jobs ran" if expected["learned"] else "with every job at its time limit"
        lines += [
            ("place", told["queue_place"] or "not known yet"),
            ("terms", told["terms"] or "not known yet"),
            ("kept", f"a place from {_moment(told['kept_from'])} at the latest" if told["kept_from"] else ""),
            ("start", f"likely {_start(expected['likely_at'])}, late {_start(expected['late_at'])} ({basis})"),
        ]
        lines += [("or now", f"with {change['what']} {change['value']}") for change in told["changes"]]
    return "\n".join(f"{name:<8} {plain(value)}" for name, value in lines if value)


def _state(job: Mapping[str, Any]) -> str:
    return str(job["state"]).replace("_", " ")


def _tasks(job: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in (job["tasks"] or {}).items())


def _place(place: Mapping[str, Any]) -> str:
    devices = [device["model"] + (" (simulated)" if device["simulated"] else "") for device in place["devices"]]
    return f"{place['node']}, replica {place['replica']}{': ' if devices else ''}{', '.join(devices)}"


def _moment(text: str | None) -> str:
    if not text:
        return ""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _start(text: str | None) -> str:
    return _moment(text) or "not within a month"
