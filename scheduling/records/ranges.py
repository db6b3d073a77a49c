"""Which tasks an array has: `0-99%8`, `1,3,7-21:2`. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from portal.kernel.errors import Rejected

#: more tasks than this are not one array: each waiting task is an ask of every cycle
MOST_TASKS = 10_000
HIGHEST_INDEX = 9_999_999
_PIECE = re.compile(r"(\d{1,7})(?:-(\d{1,7})(?::(\d{1,7}))?)?", re.ASCII)

#: [first, last, step]; `last` is one of them
Span = Sequence[int]


class BadArray(Rejected):
    """'{text}' is no array; write its tasks like 0-99, 1,3,7 or 0-99:2, and perhaps how many at a time like 0-99%8."""

    field = "array"


class TooManyTasks(Rejected):
    """An array may have {most} tasks; this one would have {count}. Make several arrays of it."""

    field = "array"


@dataclass(frozen=True, slots=True)
class TaskRange:
    """text: as it was written. spans: without overlap, in rising order. limit: so many at a time; None: all."""

    text: str
    spans: tuple[tuple[int, int, int], ...]
    limit: int | None = None

    @property
    def size(self) -> int:
        return count(self.spans)

    def columns(self) -> dict[str, Any]:
        """Of the array's row."""
        return {
            "array_spec": self.text,
            "array_size": self.size,
            "array_left": self.size,
            "array_limit": self.limit,
            "array_waiting": [list(span) for span in self.spans],
        }


def parse(text: str) -> TaskRange:
    """Raises BadArray or TooManyTasks."""
    tasks, percent, most = text.replace(" ", "").partition("%")
    if percent and not re.fullmatch(r"[1-9]\d{0,6}", most, re.ASCII):
        raise BadArray(text=text[:60])
    spans = []
    for piece in tasks.split(","):
        match = _PIECE.fullmatch(piece)
        if match is None:
            raise BadArray(text=text[:60])
        first, last, step = (int(group) if group else None for group in match.groups())
        assert first is not None
        last, step = first if last is None else last, 1 if step is None else step
        if last < first or not step:
            raise BadArray(text=text[:60])
        spans.append((first, last - (last - first) % step, step))
    total = count(spans)
    if total > MOST_TASKS:
        raise TooManyTasks(most=f"{MOST_TASKS:,}", count=f"{total:,}")
    indexes = sorted(set(each(spans)))
    return TaskRange(text=text, spans=tuple(gather(indexes)), limit=int(most) if most else None)


def count(spans: Iterable[Span]) -> int:
    return sum((last - first) // step + 1 for first, last, step in spans)


def each(spans: Iterable[Span]) -> Iterator[int]:
    """Every index, in the order of the spans."""
    for first, last, step in spans:
        yield from range(first, last + 1, step)


def gather(indexes: Sequence[int]) -> list[tuple[int, int, int]]:
    """Rising indexes as few spans: the longest even run from the left, again and again."""
    spans: list[tuple[int, int, int]] = []
    at = 0
    while at < len(indexes):
        first, end = indexes[at], at + 1
        step = indexes[end] - first if end < len(indexes) else 1
        while end < len(indexes) and indexes[end] - indexes[end - 1] == step:
            end += 1
        if end - at == 2 and step > 1:  # two far apart are more likely the first of one run and the first of another
            end = at + 1
        spans.append((first, indexes[end - 1], step if end - at > 1 else 1))
        at = end
    return spans
