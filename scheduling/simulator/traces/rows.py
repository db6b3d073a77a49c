"""Lines of a table, streamed from plain or gzip files, with fields that know where they stand."""

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scheduling.simulator.traces.problems import BadTrace

#: numbers beyond this are typing errors, not workloads (seconds: 31,000 years), and would only fail later and elsewhere
LARGEST = 10**12
#: a line, and a name in it, that is longer is no line of a trace: it would only fill the memory and the report
LONGEST_LINE, LONGEST_NAME = 1_000_000, 1_000
#: so much of a strange value, and so many names of columns, stand in a message
SHOWN, LISTED = 60, 40
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_GZIP = b"\x1f\x8b"


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
        if len(value) > LONGEST_NAME:
            raise self.bad(column, f"is {len(value):,} characters long; at most {LONGEST_NAME:,} are read")
        if _CONTROL.search(value):
            raise self.bad(column, f"{shown(value)} has a control character in it")
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
        number = int(value) if _WHOLE.fullmatch(value) else self._from_decimal(column, value)
        if number < 0 <= least:
            raise self.bad(column, f"{number} is negative")
        if number < least:
            raise self.bad(column, f"{number} is less than {least}")
        if number > LARGEST:
            raise self.bad(column, f"{value} is too large")
        return number

    def _from_decimal(self, column: str, value: str) -> int:
        try:
            decimal = float(value) if "_" not in value else float("nan")
        except ValueError:
            decimal = float("nan")
        if decimal != decimal or abs(decimal) > LARGEST:
            raise self.bad(column, f"{shown(value)} is not a number")
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
        raise self.bad(column, f"{shown(value)} is neither yes nor no")

    def names(self, column: str) -> tuple[str, ...]:
        """Values divided by `|`, each once, in the order given."""
        return tuple(dict.fromkeys(filter(None, (part.strip() for part in self.text(column, "").split("|")))))


def shown(value: str) -> str:
    """A strange value as it may stand in a message: quoted, without what a terminal would act on, and not endless."""
    return repr(value if len(value) <= SHOWN else value[:SHOWN] + "…")


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without their ends, whichever ends they have; what gzip has packed is unpacked on the way. Errors:
    BadTrace, for a file that cannot be read or is no text."""
    file, number = str(path), 0
    try:
        with _opened(path) as stream:
            while line := stream.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    what = f"is longer than {LONGEST_LINE:,} characters: this is no line of a trace"
                    raise BadTrace(file, number, "", what)
                if "\0" in line:
                    raise BadTrace(file, number, "", "has a zero byte in it: this is no text file in UTF-8")
                yield number, line.rstrip("\r\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        where = f" beyond line {number}" if number else ""
        fake = not number and isinstance(error, gzip.BadGzipFile)
        what = "it is no gzip file, whatever its name says" if fake else "it is packed by gzip, and damaged or cut off"
        raise BadTrace(file, 0, "", f"cannot be read{where}: {what}") from error
    except OSError as error:
        raise BadTrace(file, 0, "", f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        where = f" beyond line {number}" if number else ""
        raise BadTrace(file, 0, "", f"is not a text file in UTF-8{where}") from error


def _opened(path: Path) -> io.TextIOBase:
    """What is packed is known by its first bytes: its name may have lost the end that says so."""
    with path.open("rb") as stream:
        packed = stream.read(len(_GZIP)) == _GZIP
    if packed or path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def table(
    path: Path,
    *,
    required: frozenset[str],
    known: frozenset[str] | None = None,
    mark: str = ",",
    quoted: bool = True,
    check: Callable[[str, Sequence[str]], None] | None = None,
) -> Iterator[Row]:
    """The rows of a table with a header. Missing columns are refused at once, unknown ones where `known` is given.
    `quoted`: a field in quotation marks may contain the mark. `check`: told file and columns, may raise BadTrace."""
    lines = (line for _, line in text_lines(path))
    if quoted:
        reader = csv.reader(lines, delimiter=mark, strict=True)
    else:
        reader = csv.reader(lines, delimiter=mark, strict=True, quoting=csv.QUOTE_NONE)
    file, began = str(path), 1
    try:
        header = [name.strip() for name in next(reader, [])]
        if check is not None:
            check(file, header)
        _check_header(file, header, required, known)
        while True:
            began = reader.line_num + 1
            values = next(reader, None)
            if values is None:
                return
            if not values:
                continue
            row = Row(file, began, dict(zip(header, values, strict=False)))
            if len(values) != len(header):
                row.values["\0"] = f"has {len(values)} fields, the header {len(header)}"
            yield row
    except csv.Error as error:
        long = "a field is endless; is a quotation mark missing?" if "field larger" in str(error) else str(error)
        raise BadTrace(file, began, "", f"is not a table: {long}") from error


def _check_header(file: str, header: Sequence[str], required: frozenset[str], known: frozenset[str] | None) -> None:
    if not any(header):
        raise BadTrace(file, 1, "", "the file is empty, or its first line is")
    for name in sorted(required - set(header)):
        raise BadTrace(file, 1, name, f"the column is missing; there are {listed(header)}")
    for name, times in Counter(header).items():
        if times > 1:
            raise BadTrace(file, 1, name[:SHOWN], "the column appears twice")
        if known is not None and name not in known:
            raise BadTrace(
                file, 1, name[:SHOWN], f"is not a column of this format; it knows {', '.join(sorted(known))}"
            )


def listed(header: Sequence[str]) -> str:
    """The columns that there are, as they may stand in a message."""
    names = ", ".join(_CONTROL.sub("?", name[:SHOWN]) for name in header[:LISTED])
    return names + (f" and {len(header) - LISTED:,} more" if len(header) > LISTED else "")
