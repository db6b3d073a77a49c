"""How a person tells the foreground process to stop: by a signal, or by one that `make` keeps to itself."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

GLANCE_S = 0.5


class Told:
    """`once`: stop. `twice`: and hurry. Listens from the moment it is made, inside a running loop."""

    def __init__(self) -> None:
        self.once, self.twice = asyncio.Event(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._heard)
        self._watch = asyncio.create_task(self._watch_make())

    def _heard(self) -> None:
        (self.twice if self.once.is_set() else self.once).set()

    async def _watch_make(self) -> None:
        """A Ctrl-C reaches make and us; a signal to make alone it answers by waiting for us, and we would never know.

        What shows is that it goes back to the signal's default. And without make nobody waits for us any more.
        """
        parent = os.getppid()
        if _name(parent) != "make":
            return
        listened = _catches_interrupt(parent)
        while not self.once.is_set():
            await asyncio.sleep(GLANCE_S)
            if os.getppid() != parent or (listened and not _catches_interrupt(parent)):
                self.once.set()


def _name(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text().strip()
    return ""


def _catches_interrupt(process: int) -> bool:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1)
    return False
