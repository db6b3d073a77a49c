"""Line charts and bars as inline SVG: no script, no font, nothing from elsewhere."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 36
COLOURS = 8  # --c0 to --c7 of the page's stylesheet

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curve:
    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Axis:
    """`log`: values below `least` are drawn at `least`. `seconds`: the values are times, marked at round ones."""

    label: str
    least: float
    most: float
    log: bool = False
    words: Callable[[float], str] = lambda value: f"{value:g}"
    seconds: bool = False

    def place(self, value: float) -> float:
        """0 to 1."""
        if self.log:
            low, high = log10(self.least), log10(self.most)
            value = log10(max(value, self.least))
        else:
            low, high = self.least, self.most
        return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0

    def ticks(self) -> list[float]:
        if self.seconds:
            return self._times()
        if self.log:
            return [10.0**power for power in range(ceil(log10(self.least)), floor(log10(self.most)) + 1)]
        span = (self.most - self.least) or 1.0
        step = 10.0 ** floor(log10(span / 4))
        step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
        first = ceil(self.least / step)
        return [step * number for number in range(first, floor(self.most / step + 1e-9) + 1)]

    def _times(self) -> list[float]:
        if self.log:
            return [mark for mark in (1, 10, 60, 600, 3600, 36_000, 86_400, 864_000) if self.least <= mark <= self.most]
        day = 86_400
        steps = (10, 60, 300, 900, 3600, 4 * 3600, day // 2, day, 2 * day, 5 * day, 10 * day, 30 * day)
        step = next((step for step in steps if self.most / step <= 7), steps[-1])
        return [float(mark) for mark in range(0, int(self.most) + 1, step)]


def lines(title: str, curves: Sequence[Curve], x: Axis, y: Axis) -> str:
    """A chart with one line per curve; the legend is the page's."""
    drawn = []
    for number, curve in enumerate(curves):
        path = " ".join(f"{_x(x, a):.1f},{_y(y, b):.1f}" for a, b in curve.points)
        drawn.append(
            f'<polyline class="k{number % COLOURS}" points="{path}"><title>{escape(curve.name)}</title></polyline>'
        )
    return _frame(title, _grid(x, y) + "".join(drawn))


def bars(title: str, groups: Sequence[str], curves: Sequence[Curve], y: Axis) -> str:
    """Groups of bars, one bar per curve in each; a curve's points are (group number, value)."""
    width = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    each = width * 0.8 / max(1, len(curves))
    drawn = [_grid(None, y)]
    for number, curve in enumerate(curves):
        for group, value in curve.points:
            left, top = LEFT + width * (group + 0.1) + each * number, _y(y, value)
            words = f"{groups[int(group)]}, {curve.name}: {y.words(value)}"
            drawn.append(
                f'<rect class="k{number % COLOURS}" x="{left:.1f}" y="{top:.1f}" width="{max(1.0, each - 1):.1f}" '
                f'height="{HEIGHT - BOTTOM - top:.1f}"><title>{escape(words)}</title></rect>'
            )
    room = max(2, int(width / 6.5))  # letters that have room below a group
    for group, name in enumerate(groups):
        middle = LEFT + width * (group + 0.5)
        words = name if len(name) <= room else f"{name[: room - 1]}…"
        drawn.append(
            f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{escape(words)}'
            f"<title>{escape(name)}</title></text>"
        )
    return _frame(title, "".join(drawn))


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - TOP - BOTTOM)


def _grid(x: Axis | None, y: Axis) -> str:
    drawn = []
    for tick in y.ticks():
        at = _y(y, tick)
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(y.words(tick))}</text>')
    for tick in x.ticks() if x else ():
        assert x is not None
        at = _x(x, tick)
        drawn.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        drawn.append(
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{escape(x.words(tick))}</text>'
        )
    if x:
        drawn.append(
            f'<text class="label" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x.label)}</text>'
        )
    return "".join(drawn)


def _frame(title: str, inside: str) -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{inside}</svg></figure>'
    )
