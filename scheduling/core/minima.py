"""What has failed already: nothing that asks for as much or more needs to be tried."""

Point = tuple[int, ...]


class Minima:
    """The smallest points that failed; a point is covered if one of them is not larger in any direction."""

    __slots__ = ("_points",)

    def __init__(self) -> None:
        self._points: list[Point] = []

    def covers(self, point: Point) -> bool:
        return any(all(a <= b for a, b in zip(known, point, strict=True)) for known in self._points)

    def add(self, point: Point) -> None:
        if not self.covers(point):
            self._points = [p for p in self._points if not all(a <= b for a, b in zip(point, p, strict=True))]
            self._points.append(point)
