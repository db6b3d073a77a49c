"""`make bench-traces`: public traces through the scheduler, our figure beside each published or measured one.

The traces are not part of the repository: `--traces`, or TRACES in the environment, names the folder that has them.
Nothing is asserted: the figures are for people.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks import openb
from tests.benchmarks.philly import Line, Philly

PARTS = ("replayer", "openb", "walls", "known", "unknown", "borrow")
COLUMNS = "{:52} {:44} {:32} {:8} {:>8}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-traces", description=__doc__)
    parser.add_argument("--traces", type=Path, default=os.environ.get("TRACES"), help="folder with the traces")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, by commas: {','.join(PARTS)}")
    parser.add_argument("--nodes", choices=("third", "fifth"), default="third", help="Philly's 123 or 76 nodes")
    chosen = parser.parse_args()
    parts = chosen.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if chosen.traces is None or not Path(chosen.traces).is_dir():
        print("Say where the traces are: make bench-traces TRACES=/path/to/traces", file=sys.stderr)
        return 2
    folder = Path(chosen.traces)
    print(COLUMNS.format("what", "ours", "to compare", "reached", "CPU"))
    for line in _lines(folder, parts, f"_{chosen.nodes}"):
        reached = {None: "", True: "yes", False: "NO"}[line.reached]
        print(COLUMNS.format(line.name, line.figure, line.compare, reached, f"{line.seconds:.0f} s"), flush=True)
    return 0


def _lines(folder: Path, parts: list[str], size: str) -> Iterator[Line]:
    if "openb" in parts:
        yield from openb.scores(folder, baselines="replayer" in parts)
    if not set(parts) - {"openb"}:
        return
    trace = Philly(folder, size)
    run: dict[str, Callable[[], Iterator[Line]]] = {
        "replayer": trace.baselines,
        "walls": trace.walls,
        "known": trace.known,
        "unknown": trace.unknown,
        "borrow": trace.borrow,
    }
    for part in PARTS:
        if part in parts and part in run:
            yield from run[part]()


if __name__ == "__main__":
    sys.exit(main())
