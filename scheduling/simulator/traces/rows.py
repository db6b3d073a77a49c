"""Lines of a table, streamed from plain or gzip files, with fields that know where they stand."""

import csv
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scheduling.simulator.traces.problems import BadTrace

#: numbers beyond this are typing errors, not workloads (seconds: 31,000 years), and would only fail later and elsewhere
LARGEST = 10**12


@dataclass(frozen=True, slots=True)
class Row:
    """One line: its values by column name, and its place for messages."""

    file: str
    line: int
    values: dict[str, str]

    def bad(self, column: str, what: str) -> BadTrace:
        return BadTrace(self.file, self.line, column, what)

    def text(self, column: str, default: str | None = None) -> str:
        value = self.values.get(column, "").strip()
        if value:
            return value
        if default is None:
            raise self.bad(column, "is empty")
        return default

    def integer(self, column: str, *, least: int = 0, default: int | None = None) -> int:
        """A whole number; `120.0` is one too, because spreadsheets and pandas write it so."""
        value = self.values.get(column, "").strip()
        if not value and default is not None:
            return default
        return self.as_integer(column, value, least=least)

    def optional_integer(self, column: str, *, least: int = 0) -> int | None:
        value = self.values.get(column, "").strip()
        return self.as_integer(column, value, least=least) if value else None

    def as_integer(self, column: str, value: str, *, least: int) -> int:
        if not value:
            raise self.bad(column, "is empty")
        try:
            number = int(value)
        except ValueError:
            number = self._from_decimal(column, value)
        if number < 0 <= least:
            raise self.bad(column, f"{number} is negative")
        if number < least:
            raise self.bad(column, f"{number} is less than {least}")
        if number > LARGEST:
            raise self.bad(column, f"{value} is too large")
        return number

    def _from_decimal(self, column: str, value: str) -> int:
        try:
            decimal = float(value)
        except ValueError:
            decimal = float("nan")
        if decimal != decimal or abs(decimal) > LARGEST:
            raise self.bad(column, f"{value!r} is not a number")
        if decimal != int(decimal):
            raise self.bad(column, f"{value} is not a whole number")
        return int(decimal)

    def boolean(self, column: str, default: bool) -> bool:
        value = self.values.get(column, "").strip().lower()
        if not value:
            return default
        if value in {"1", "true", "yes"}:
            return True
        if value in {"0", "false", "no"}:
            return False
        raise self.bad(column, f"{value!r} is neither yes nor no")

    def names(self, column: str) -> tuple[str, ...]:
        """Values divided by `|`, each once, in the order given."""
        return tuple(dict.fromkeys(filter(None, (part.strip() for part in self.text(column, "").split("|")))))


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without their ends; a `.gz` is unpacked on the way."""
    try:
        with _opened(path) as stream:
            for number, line in enumerate(stream, start=1):
                yield number, line.rstrip("\r\n")
    except (OSError, EOFError) as error:
        raise BadTrace(str(path), 0, "", f"cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise BadTrace(str(path), 0, "", "is not a text file in UTF-8") from error


def _opened(path: Path) -> io.TextIOBase:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def table(
    path: Path, *, required: frozenset[str], known: frozenset[str] | None = None, mark: str = ","
) -> Iterator[Row]:
    """The rows of a table with a header. Missing columns are refused at once, unknown ones where `known` is given."""
    reader = csv.reader((line for _, line in text_lines(path)), delimiter=mark, strict=True)
    file = str(path)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(file, header, required, known)
        for values in reader:
            if not values:
                continue
            row = Row(file, reader.line_num, dict(zip(header, values, strict=False)))
            if len(values) != len(header):
                row.values["\0"] = f"has {len(values)} fields, the header {len(header)}"
            yield row
    except csv.Error as error:
        raise BadTrace(file, reader.line_num, "", f"is not a table: {error}") from error


def _check_header(file: str, header: list[str], required: frozenset[str], known: frozenset[str] | None) -> None:
    if not header:
        raise BadTrace(file, 1, "", "the file is empty")
    for name in sorted(required - set(header)):
        raise BadTrace(file, 1, name, f"the column is missing; there are {', '.join(header)}")
    for name in header:
        if header.count(name) > 1:
            raise BadTrace(file, 1, name, "the column appears twice")
        if known is not None and name not in known:
            raise BadTrace(file, 1, name, f"is not a column of this format; it knows {', '.join(sorted(known))}")
