"""How the cost of a cold plan grows: with jobs, with nodes, and with both; beside n log n."""

from collections.abc import Sequence
from math import log2
from pathlib import Path

from scheduling.simulator.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, Axis, Curve, lines
from tests.benchmarks.core.measure import measure
from tests.benchmarks.core.queues import mixed

#: what grows -> (nodes, waiting jobs), the smallest first
SERIES = {
    "jobs and nodes": [(n, n * 10) for n in (125, 250, 500, 1000, 2000)],
    "jobs, 500 nodes": [(500, jobs) for jobs in (1250, 2500, 5000, 10_000, 20_000)],
    "nodes, 5,000 jobs": [(nodes, 5000) for nodes in (125, 250, 500, 1000, 2000)],
}
STYLE = """svg { font: 12px sans-serif; background: #fff } polyline { fill: none; stroke-width: 2 }
.grid { stroke: #ddd } .k0 { stroke: #0b62c4 } .k1 { stroke: #c43c0b } .k2 { stroke: #1c8a3c }
.k3 { stroke: #888; stroke-dasharray: 5 4 } .n0 { fill: #0b62c4 } .n1 { fill: #c43c0b } .n2 { fill: #1c8a3c }
.n3 { fill: #666 }"""


def run(target: Path, *, rounds: int) -> None:
    """Print a table and draw one line per series: times the smallest case against times its size."""
    curves = []
    for name, sizes in SERIES.items():
        print(f"\n{name}\n  nodes    jobs   cold plan     x size     x cost   x n log n")
        points: list[tuple[float, float]] = []
        first = 0.0
        for nodes, jobs in sizes:
            cost = measure(mixed(nodes, jobs), rounds=rounds).cold.middle
            first = first or cost
            size = max(nodes / sizes[0][0], jobs / sizes[0][1])
            points.append((size, cost / first))
            expected = n_log_n(size, sizes[0][1])
            print(f"{nodes:7,} {jobs:7,} {cost:9.3f} s {size:10.1f} {cost / first:10.1f} {expected:11.1f}", flush=True)
        curves.append(Curve(name, points))
    curves.append(Curve("n log n", [(size, n_log_n(size, 1250)) for size, _ in curves[0].points]))
    target.write_text(picture(curves))
    print(f"\ndrawn into {target}")


def n_log_n(times: float, smallest: int) -> float:
    """What n log n grows by from the smallest case on."""
    return times * log2(times * smallest) / log2(smallest)


def picture(curves: Sequence[Curve]) -> str:
    """One SVG that needs nothing else: both axes logarithmic, so that n log n is nearly a straight line."""
    most = max(value for curve in curves for point in curve.points for value in point)
    x = Axis("times the size of the smallest case", 1, curves[0].points[-1][0], log=True)
    y = Axis("times its cost", 0.5, most, log=True)
    figure = lines("Cost of one cold plan", curves, x, y)
    inside = figure[figure.index(">", figure.index("<svg")) + 1 : figure.rindex("</svg>")]
    names = "".join(
        f'<text class="n{number}" x="80" y="{34 + 16 * number}">{curve.name}</text>'
        for number, curve in enumerate(curves)
    )
    marks = "".join(_mark(x, y, size) for size in (2, 4, 8, 16))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 260"><style>{STYLE}</style>'
        f'{inside}{marks}<text x="80" y="18">cost of one cold plan, times that of the smallest case</text>{names}</svg>\n'
    )


def _mark(x: Axis, y: Axis, size: float) -> str:
    """A size on the lower axis; the chart's own ticks are powers of ten."""
    at = LEFT + x.place(size) * (WIDTH - LEFT - RIGHT)
    return f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{size:g}</text>'
