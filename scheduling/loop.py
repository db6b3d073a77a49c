"""The loop: one thread in every worker process, of which one in the whole installation leads.

The leader runs a cycle whenever the bell rings (a submit, an ending, a changed quota) and every PERIOD_S without one;
rings during a cycle lead to one more, however many they are. The others ask a few times a second whether the lead is
free: it is as soon as the leader's session with the database ends, which kill -9 does at once. Neither a broker nor a
clock process is needed, so the loop goes on while Redis is away.

A cycle that fails is told on the scheduler's page and in the log, and the next one comes all the same.
"""

import logging
import threading
from datetime import timedelta

from django.db import DatabaseError, close_old_connections, connections

from portal.kernel import clock
from portal.kernel.locks import Seat, ring, seat
from scheduling.records.cycles import Record
from scheduling.tick import Memory, tick

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

    def _sit(self, place: Seat, record: Record) -> None:
        if not place.lead():
            log.info("%s stands by for the scheduling", record.leader)
        while not self._stop.is_set():
            if place.lead():
                self._lead(place, record)
            else:
                self._looked_at = clock.monotonic()
                self._stop.wait(STANDBY_S)

    def _lead(self, place: Seat, record: Record) -> None:
        log.info("%s leads the scheduling", record.leader)
        self.leads, memory = True, Memory()
        record.leads(clock.now())
        while not self._stop.is_set():
            began = self._looked_at = clock.monotonic()
            try:
                cycle = tick(memory)
                if cycle.led:
                    record.passed(took=timedelta(seconds=cycle.seconds), waiting=cycle.waiting, now=clock.now())
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
