"""Medians, ratios and the machine they were measured on, as a table to read."""

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path


def machine() -> str:
    """Cores, memory and versions: a number without them says nothing."""
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024**2
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {system}"


def others(moment: str) -> str:
    """How busy the machine is with other things: much of that, and the numbers are weather."""
    load = os.getloadavg()[0]
    return f"Load average {moment}: {load:.1f}" + ("  (BUSY: compare on a quiet machine)" if load > 1 else "")


def versions(python: Path, packages: Sequence[str]) -> str:
    """What an environment really holds of these packages."""
    question = "import importlib.metadata as m, sys; print(*(f'{p} {m.version(p)}' for p in sys.argv[1:]), sep=', ')"
    return subprocess.run(
        [python, "-c", question, *packages], capture_output=True, text=True, check=True
    ).stdout.strip()


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}  ({min(values):.2f} to {max(values):.2f})"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [heads, *rows]
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def verdict(what: str, value: float, target: str, *, reached: bool) -> str:
    return f"{'reached' if reached else 'MISSED '}  {what}: {value:.2f}  (target {target})"
