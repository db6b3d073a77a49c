"""How the scheduling loop is doing: written by whoever leads it, read by the admins' page."""

import logging
import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DatabaseError

from scheduling.models import LoopRecord

log = logging.getLogger("berth.loop")

#: how often the record of a loop that is well is written
RECORD_EVERY = timedelta(seconds=5)
#: without a cycle for so long something is wrong with every worker
QUIET_AFTER = timedelta(seconds=20)


class Record:
    """Keeps the `LoopRecord`; what cannot be written because the database is away is written with the next cycle."""

    def __init__(self) -> None:
        self.leader = f"{socket.gethostname()}:{os.getpid()}"[:100]
        self._since: datetime | None = None
        self._written: datetime | None = None
        self._failing = 0
        self._unwritten = 0
        self._failure: tuple[str, datetime] | None = None

    def leads(self, now: datetime) -> None:
        """From now on this process leads."""
        self._since, self._written = now, None

    def passed(self, *, took: timedelta, waiting: int, now: datetime) -> None:
        """A cycle ended well. Written only now and then, or if it is the first one that did."""
        due = self._written is None or now - self._written >= RECORD_EVERY
        if due or self._failing or self._unwritten:
            self._failing = 0
            self._write(now, cycle_at=now, took=took, waiting=waiting)

    def failed(self, error: Exception, now: datetime) -> None:
        """Never raises what the database has against it: that is for the next cycle to tell."""
        self._failing += 1
        self._unwritten += 1
        self._failure = (f"{type(error).__name__}: {error}"[:500], now)
        if self._since is None:
            return
        try:
            self._write(now)
        except DatabaseError as away:
            log.warning("the failure is not on record yet: %s", away)

    def _write(self, now: datetime, **columns: object) -> None:
        row = LoopRecord.objects.filter(pk=1).first() or LoopRecord(pk=1)
        columns |= {"leader": self.leader, "led_since_at": self._since, "failing": self._failing}
        if self._failure is not None:
            columns |= {"failure": self._failure[0], "failed_at": self._failure[1]}
        for name, value in columns.items():
            setattr(row, name, value)
        row.failures += self._unwritten
        row.save()
        self._written, self._unwritten, self._failure = now, 0, None


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """How the scheduling loop is doing. `record`: None before the first cycle of this installation."""

    well: bool
    sentence: str
    record: LoopRecord | None


def loop_status(*, now: datetime) -> LoopStatus:
    record = LoopRecord.objects.filter(pk=1).first()
    if record is None:
        return LoopStatus(False, "The scheduler has not run yet. It begins with the first worker process.", None)
    if record.failing:
        times = "The last cycle" if record.failing == 1 else f"The last {record.failing} cycles"
        return LoopStatus(
            False, f"{times} failed. It is tried again every 2 s; what runs goes on, and nothing new starts.", record
        )
    since = now - (record.cycle_at or record.led_since_at)
    if since > QUIET_AFTER:
        return LoopStatus(
            False,
            f"No cycle has ended for {int(since.total_seconds())} s: no worker process seems to run. Start one; its "
            "log says what is wrong.",
            record,
        )
    return LoopStatus(True, "All is well: jobs are looked at whenever something changes, and every 2 s.", record)
