"""`make bench-core`: what one plan costs, as measured here and now. CPU seconds of one core, medians over several
rounds; no figure is asserted.

    make bench-core                                 all cases, cold and warm
    make bench-core ARGS="--only mixed --rounds 9"  some of them, more often
    make bench-core ARGS="--growth growth.svg"      how the cost grows with jobs and nodes, as a table and a plot
    make bench-core ARGS="--slurm SCRIPT"           beside a Slurm controller that the script sets up on this machine
"""

import argparse
from pathlib import Path

from tests.benchmarks.core import growth, slurm
from tests.benchmarks.core.measure import machine, measure
from tests.benchmarks.core.queues import full, mixed, slurm_like

#: name -> (the queue, part of the jobs that changes between two warm plans)
CASES = {
    "slurm-like 64 nodes, 5,000": (lambda: slurm_like(64), 0.0),
    "slurm-like 512 nodes, 5,000": (lambda: slurm_like(512), 0.0),
    "full 1,000 nodes, 10,000": (lambda: full(1000, 10_000), 0.01),
    "full 5,000 nodes, 50,000": (lambda: full(5000, 50_000), 0.0),
    "mixed 1,000 nodes, 10,000": (lambda: mixed(1000, 10_000), 0.01),
    "mixed 5,000 nodes, 50,000": (lambda: mixed(5000, 50_000), 0.01),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default="", help="run the cases whose name contains this")
    options.add_argument("--rounds", type=int, default=5, help="cold plans per case, and warm ones (default 5)")
    options.add_argument("--growth", type=Path, metavar="SVG", help="measure the growth and draw it into this file")
    options.add_argument("--slurm", type=Path, metavar="SCRIPT", help="run this Slurm baseline script side by side")
    options.add_argument("--nodes", type=int, default=64, help="nodes for --slurm (default 64)")
    chosen = options.parse_args()
    print(machine())
    if chosen.growth:
        growth.run(chosen.growth, rounds=chosen.rounds)
    elif chosen.slurm:
        slurm.run(chosen.slurm, node_count=chosen.nodes, rounds=chosen.rounds)
    else:
        for name, (make, changes) in CASES.items():
            if chosen.only in name:
                print(f"{name:30s} {measure(make(), rounds=chosen.rounds, changes=changes)}", flush=True)


if __name__ == "__main__":
    main()
