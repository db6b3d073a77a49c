"""What has failed already: nothing that asks for as much or more needs to be tried."""

from operator import gt

Point = tuple[int, ...]


class Minima:
    """The smallest points that failed; a point is covered if one of them is not larger in any direction."""

    __slots__ = ("_points",)

    def __init__(self) -> None:
        self._points: list[Point] = []

    def covers(self, point: Point) -> bool:
        return any(_within(known, point) for known in self._points)

    def add(self, point: Point) -> None:
        if not self.covers(point):
            self._points = [p for p in self._points if not _within(point, p)]
            self._points.append(point)


def _within(lower: Point, upper: Point) -> bool:
    """Is it not larger in any direction?"""
    return not any(map(gt, lower, upper))
