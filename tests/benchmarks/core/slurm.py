"""Beside Slurm: a baseline script sets up a controller with the same full cluster and the same queue on this machine,
and what its statistics say about one backfill cycle is printed beside one plan of ours, both measured in this run.

The script is a bash script of the caller's. It is given NODES, GPUS, DEEP (waiting jobs) and STAGES=deep, and prints
what `sdiag` says of the backfill scheduler in lines that begin with "bf", and the CPU seconds that the controller took
meanwhile. CPU is compared with CPU, because Slurm's cycle is timed by the clock, and sleeps between parts of its work.
"""

import os
import re
import subprocess
from pathlib import Path

from tests.benchmarks.core.measure import measure
from tests.benchmarks.core.queues import GPUS, slurm_like

WAITING = 5000


def run(script: Path, *, node_count: int, rounds: int) -> None:
    """Ours first, on the quiet machine; then Slurm's, with its own output as it comes."""
    ours = measure(slurm_like(node_count, WAITING), rounds=rounds)
    print(f"Berth, {node_count} nodes, {WAITING:,} waiting: {ours}", flush=True)
    printed = _output_of(script, node_count)
    cycle = _number(r"bf Last cycle:\s*(\d+)", printed)
    tried = _number(r"bf Last depth cycle \(try sched\):\s*(\d+)", printed)
    cpu = _number(r"deep observed_s=\S+ slurmctld_cpu_s=([\d.]+)", printed)
    if cycle is None or tried is None or cpu is None:
        raise SystemExit("the script printed no backfill cycle of the kind that is looked for here")
    print(f"\nBerth: {ours.cold.middle:.3f} s of CPU for one cold plan of all {WAITING:,} jobs with reasons for each")
    print(
        f"Slurm: {cpu:.1f} s of CPU, {cycle / 1e6:.1f} s on the clock for one backfill cycle that tried {tried:,.0f} jobs"
    )
    print(f"ratio of the CPU times: {cpu / ours.cold.middle:.0f}")


def _output_of(script: Path, node_count: int) -> str:
    settings = {"NODES": str(node_count), "GPUS": str(GPUS), "DEEP": str(WAITING), "STAGES": "deep"}
    lines = []
    with subprocess.Popen(
        ["bash", str(script)], env={**os.environ, **settings}, text=True, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"  {line}", end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(f"{script} ended with {process.returncode}")
    return "".join(lines)


def _number(pattern: str, text: str) -> float | None:
    found = re.search(pattern, text)
    return float(found.group(1)) if found else None
