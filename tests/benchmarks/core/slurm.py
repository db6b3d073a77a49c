"""Beside Slurm: a baseline script sets up a controller with the same full cluster and the same queue on this machine,
and what its statistics say about one backfill cycle is printed beside one plan of ours, both measured in this run.

The script is a bash script of the caller's. It is given NODES, GPUS, DEEP (waiting jobs) and STAGES=deep, and prints
what `sdiag` says of the backfill scheduler in lines that begin with "bf".
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
    cycle = _number(r"bf\s+Max cycle:\s*(\d+)", printed) or _number(r"bf\s+Last cycle:\s*(\d+)", printed)
    depth = _number(r"bf\s+Last depth cycle:\s*(\d+)", printed)
    if cycle is None:
        raise SystemExit("the script printed no backfill cycle")
    seconds = cycle / 1e6
    print(
        f"\nBerth: {ours.cold.middle:.2f} s for one cold plan of all {WAITING:,} jobs, reasons and reservations in it"
    )
    print(f"Slurm: {seconds:.1f} s for one backfill cycle" + (f" over {depth:,} jobs" if depth else ""))
    print(f"ratio: {seconds / ours.cold.middle:.0f}")


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


def _number(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    return int(found.group(1)) if found else None
