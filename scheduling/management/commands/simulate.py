"""`manage.py simulate`: replay a job trace in virtual time through the scheduler's own `plan`, and write a report."""

import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from scheduling.simulator.baselines.queueing import BASELINES
from scheduling.simulator.options import Limits, Options, Suspendable
from scheduling.simulator.simulate import BadInput, Request, Result, simulate
from scheduling.simulator.traces.formats import Format, Reading

EXIT_REFUSED = 2  # trace, cluster or policy is wrong; nothing was written
EXIT_LEFT_OUT = 3  # the report is written, but lines were left out (--skip-bad)
EXIT_NEVER_STARTED = 4  # the report is written, but some jobs never started
TABLE = "{:10} {:>8} {:>12} {:>15} {:>13} {:>10} {:>11}"


class Command(BaseCommand):
    help = (
        "Replay a job trace on a cluster under a policy. Exit code 0: all jobs replayed; 2: bad input, nothing "
        "written; 3: lines were left out; 4: some jobs never started."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("trace", type=Path, help="job trace, plain or .gz")
        parser.add_argument("--cluster", type=Path, required=True, help="YAML: nodes and teams")
        parser.add_argument("--policy", type=Path, required=True, help="YAML: the policy's knobs")
        parser.add_argument("--out", type=Path, required=True, help="folder for report.html, report.json, jobs.csv")
        parser.add_argument("--format", type=Format, choices=list(Format), help="default: by name and columns")
        parser.add_argument("--skip-bad", action="store_true", help="leave bad lines out, count and list them")
        parser.add_argument("--baseline", default="", help=f"compare with, by commas: {','.join(BASELINES)}")
        parser.add_argument("--seed", type=int, default=1, help="of the random baseline")
        parser.add_argument("--limits", type=Limits, choices=list(Limits), default=Limits.TRACE,
                            help="what the scheduler is told about run times")  # fmt: skip
        parser.add_argument("--suspendable", type=Suspendable, choices=list(Suspendable), default=Suspendable.TRACE)
        parser.add_argument("--cost", type=_cost, default=(), metavar="1:7,8:30,*:60",
                            help="seconds lost per preemption, up to so many GPUs")  # fmt: skip
        parser.add_argument("--promise-every", type=_count, default=100, metavar="N",
                            help="estimate the start of every Nth job and tell how many kept it; 0: none")  # fmt: skip
        parser.add_argument("--swf-gpus", action="store_true", help="a processor of the SWF trace is a GPU")
        parser.add_argument("--order", type=Path, help="openb: arrival order; then pods only arrive")
        parser.add_argument("--order-column", default="seed_42", help="openb: the order's column")

    def handle(self, *args: Any, **options: Any) -> None:
        request = Request(
            trace=options["trace"],
            cluster=options["cluster"],
            policy=options["policy"],
            out=options["out"],
            reading=Reading(
                format=options["format"],
                swf_gpus=options["swf_gpus"],
                order=options["order"],
                seed=options["order_column"],
            ),
            options=Options(
                limits=options["limits"],
                suspendable=options["suspendable"],
                cost_s=options["cost"],
                promise_every=options["promise_every"],
                sample_s=0,
            ),
            baselines=tuple(filter(None, options["baseline"].split(","))),
            skip_bad=options["skip_bad"],
            seed=options["seed"],
        )
        bar = Bar()
        try:
            result = simulate(request, bar.show)
        except BadInput as problem:
            bar.clear()
            print(problem, file=sys.stderr)
            sys.exit(EXIT_REFUSED)
        bar.clear()
        _tell(result)
        if any(figures.never_started for figures, _ in result.runs[:1]):
            sys.exit(EXIT_NEVER_STARTED)
        if result.problems.listed:
            sys.exit(EXIT_LEFT_OUT)


class Bar:
    """Progress on standard error: a bar on a terminal, a line per tenth elsewhere."""

    WIDTH = 30

    def __init__(self) -> None:
        self._last = ("", -1)

    def show(self, name: str, ended: int, jobs: int, passed_s: int) -> None:
        live = sys.stderr.isatty()
        step = ended * (100 if live else 10) // jobs
        if self._last == (name, step):
            return
        self._last = (name, step)
        done = self.WIDTH * ended // jobs
        drawn = "#" * done + "." * (self.WIDTH - done)
        text = f"{name} [{drawn}] {ended:,} of {jobs:,} jobs, day {passed_s / 86_400:.1f}"
        print(f"\r{text}\x1b[K" if live else text, end="" if live else "\n", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _tell(result: Result) -> None:
    for problem in result.problems.listed:
        print(f"left out: {problem}")
    for why, count in sorted(result.problems.passed_over.items()):
        print(f"passed over: {count:,} lines, {why}")
    if result.problems.listed:
        print(f"left out: {len(result.problems.listed):,} in all")
    print(TABLE.format("", "jobs", "mean wait s", "90 % at most s", "completion s", "preempted", "lost GPU-h"))
    for f, _ in result.runs:
        numbers = (f.finished, f.mean_wait_s, f.p90_wait_s, f.mean_completion_s, f.suspensions + f.requeues)
        print(TABLE.format(f.name, *(f"{number:,.0f}" for number in numbers), f"{f.gpu_hours_lost:,.1f}"))
    ours = result.runs[0][0]
    if ours.deadlines:
        print(
            f"deadlines: {ours.deadlines_accepted:,} accepted at submission, {ours.deadlines_refused:,} refused; met: "
            f"{ours.accepted_met:,} of the accepted, {ours.deadlines_met:,} of all {ours.deadlines:,}"
        )
    for note in result.notes:
        print(note)
    print("report:", result.files[1])


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError("is not a whole number from 0 on")
    return int(text)


def _cost(text: str) -> tuple[tuple[int, int], ...]:
    try:
        pairs = [part.split(":") for part in text.split(",")]
        return tuple((10**9 if most == "*" else int(most), int(seconds)) for most, seconds in pairs)
    except ValueError:
        raise ArgumentTypeError("write it as 1:7,8:30,*:60 (up to so many GPUs : seconds)") from None
