"""What is wrong with a line of a trace, and whether that ends the reading or is counted and listed."""

from collections import Counter
from dataclasses import dataclass, field


class BadTrace(Exception):
    """A trace cannot be used as it is. The text names file, line and field."""

    def __init__(self, file: str, line: int, column: str, what: str) -> None:
        self.file, self.line, self.column, self.what = file, line, column, what
        where = f"{file}, line {line}" if line else file
        super().__init__(f"{where}, {column}: {what}" if column else f"{where}: {what}")


@dataclass(slots=True)
class Problems:
    """Where readers report. Strict by default: the first bad line ends the reading, because a replay of half a trace
    looks just like a replay of a whole one. With `skip_bad` they are kept here, to be counted and listed."""

    skip_bad: bool = False
    listed: list[BadTrace] = field(default_factory=list)
    #: lines that are no jobs to replay (job steps, jobs that never ran), by reason: not bad, but never silent
    passed_over: Counter[str] = field(default_factory=Counter)

    def bad(self, problem: BadTrace) -> None:
        if not self.skip_bad:
            raise problem
        self.listed.append(problem)

    def pass_over(self, why: str) -> None:
        self.passed_over[why] += 1
