"""The report on disk: report.json (all figures), jobs.csv (one line per job), timeline.csv, report.html."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from scheduling.simulator.history import History
from scheduling.simulator.report.page import page
from scheduling.simulator.report.summary import Figures
from scheduling.simulator.traces.problems import Problems

JOB_COLUMNS = ("id", "team", "user", "gpus", "submit_s", "first_start_s", "end_s", "wait_s", "completion_s",
               "suspensions", "requeues", "lost_s", "promised_s", "timed_out", "deadline_s", "deadline",
               "deadline_met")  # fmt: skip
WEIGHED = {None: "", True: "accepted", False: "refused"}


def write_report(
    folder: Path, title: str, notes: Sequence[str], runs: Sequence[tuple[Figures, History]], problems: Problems
) -> list[Path]:
    """The files written. `runs`: ours first, then the baselines."""
    folder.mkdir(parents=True, exist_ok=True)
    ours = runs[0][1]
    described = {
        "title": title,
        "notes": list(notes),
        "runs": [figures.as_dict() for figures, _ in runs],
        "left_out": [str(problem) for problem in problems.listed],
        "passed_over": dict(problems.passed_over),
    }
    files = {
        "report.json": json.dumps(described, indent=1) + "\n",
        "report.html": page(title, notes, runs),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    _jobs(folder / "jobs.csv", ours)
    _timeline(folder / "timeline.csv", ours)
    return [folder / name for name in (*files, "jobs.csv", "timeline.csv")]


def _jobs(path: Path, history: History) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(JOB_COLUMNS)
        for r in history.records:
            job = r.job
            writer.writerow(
                (job.id, job.team, job.user, f"{r.gpus:g}", job.submit_s, r.first_start, r.end, r.wait_s,
                 r.completion_s, r.suspensions, r.requeues, r.lost_s, r.promised, int(r.timed_out),
                 job.deadline_s, WEIGHED[r.deadline_accepted], None if r.deadline_met is None else int(r.deadline_met))
            )  # fmt: skip


def _timeline(path: Path, history: History) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("at_s", "allocated", "fragmented", "waiting"))
        for sample in history.samples:
            writer.writerow((sample.at, f"{sample.used:.4f}", f"{sample.fragmented:.4f}", sample.waiting))
