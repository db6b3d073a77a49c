"""The loop: one thread in every worker process, of which one in the whole installation leads.

The leader runs a cycle whenever the bell rings (a submit, an ending, a changed quota) and every PERIOD_S without one;
rings during a cycle lead to one more, however many they are. The others ask a few times a second whether the lead is
free: it is as soon as the leader's session with the database ends, which kill -9 does at once. Neither a broker nor a
clock process is needed, so the loop goes on while Redis is away.

A cycle that fails is told on the scheduler's page and in the log, and the next one comes all the same.
"""

import logging
import os
import socket
import threading
from datetime import datetime, timedelta

from django.db import DatabaseError, close_old_connections, connections

from portal.kernel import clock
from portal.kernel.locks import Seat, ring, seat
from scheduling.models import LoopRecord
from scheduling.tick import Cycle, Memory, tick

log = logging.getLogger("berth.loop")

BELL = "tick"
#: a cycle comes at least so often: time-outs fall due without anybody's doing
PERIOD_S = 2.0
#: after a cycle others get the processor and the database for so long, while hints gather; one that comes later than
#: that is served at once
REST_S = 0.05
#: how often a process that does not lead asks whether it may
STANDBY_S = 0.5
#: after trouble, until it is tried again
AWAY_S = 1.0
#: for a cycle that is under way
STOP_PATIENCE_S = 10.0
#: how often the record of a loop that is well is written
RECORD_S = 5.0
#: a leader whose cycles do not end for so long is not well
SILENCE_S = 30.0


def hint() -> None:
    """Something changed: whoever leads should look soon. Any thread of any process; losing a hint costs PERIOD_S."""
    try:
        ring(BELL)
    except DatabaseError as error:
        log.warning("a hint was lost, the next cycle comes by itself: %s", error)


class Loop:
    """`leads` and `cycles`, for whoever watches."""

    def __init__(self, *, period_s: float = PERIOD_S) -> None:
        self.leads, self.cycles = False, 0
        self._period_s = period_s
        self._looked_at = clock.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        """No further cycle begins, the one under way may finish, and within PERIOD_S the lead is free. For signal
        handlers: touches no database and waits for nothing."""
        self._stop.set()

    def stop(self) -> None:
        """Leave, and wait until the lead is free."""
        self.leave()
        hint()
        if self._thread.ident is not None:
            self._thread.join(STOP_PATIENCE_S)

    def trouble(self) -> str:
        """One sentence, or nothing."""
        if not self._thread.is_alive():
            return "The scheduler's thread has ended; the log says why. Restart this process."
        silent = clock.monotonic() - self._looked_at
        return f"The scheduler has not finished a cycle for {silent:.0f} s." if silent > SILENCE_S else ""

    def _run(self) -> None:
        record = Record()
        while not self._stop.is_set():
            try:
                with seat(BELL) as place:
                    self._sit(place, record)
            except Exception as error:  # most likely the database; whatever it is, the loop goes on
                log.warning("the lead may be lost: %s", error, exc_info=not isinstance(error, DatabaseError))
                connections.close_all()
                record.failed(error, clock.now())
            finally:
                self.leads = False
                connections.close_all()
            self._stop.wait(AWAY_S)

    def _sit(self, place: Seat, record: "Record") -> None:
        if not place.lead():
            log.info("%s stands by for the scheduling", record.leader)
        while not self._stop.is_set():
            if place.lead():
                self._lead(place, record)
            else:
                self._looked_at = clock.monotonic()
                self._stop.wait(STANDBY_S)

    def _lead(self, place: Seat, record: "Record") -> None:
        log.info("%s leads the scheduling", record.leader)
        self.leads, memory = True, Memory()
        record.leads(clock.now())
        while not self._stop.is_set():
            began = self._looked_at = clock.monotonic()
            try:
                cycle = tick(memory)
                record.passed(cycle, clock.now())
            except Exception as error:
                log.exception("a cycle failed")
                memory = Memory()
                close_old_connections()
                record.failed(error, clock.now())
                self._stop.wait(AWAY_S)  # however many hints come: it may be the database that needs rest
            else:
                if not cycle.led:  # somebody runs one by hand
                    self._stop.wait(REST_S)
                    continue
            self.cycles += 1
            ended = clock.monotonic()
            if place.wait(max(0.0, began + self._period_s - ended)):
                self._stop.wait(max(0.0, ended + REST_S - clock.monotonic()))
                place.wait(0)


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
        self._since, self._written = now, None

    def passed(self, cycle: Cycle, now: datetime) -> None:
        due = self._written is None or now - self._written >= timedelta(seconds=RECORD_S)
        if cycle.led and (due or self._failing or self._unwritten):
            self._failing = 0
            took = timedelta(seconds=cycle.seconds)
            self._write(now, cycle_at=now, took=took, waiting=cycle.waiting)

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
