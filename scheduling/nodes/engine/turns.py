"""One verb at a time per allocation, without a lock that outlives its users."""

import contextlib
import threading
from collections.abc import Iterator


class Turns:
    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._queues: dict[str, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def of(self, key: str, *, wait_s: float = -1) -> Iterator[bool]:
        """Hold `key`'s turn for the block. Yields False, without the turn, when it did not come within `wait_s`."""
        with self._guard:
            lock, waiting = self._queues.get(key, (threading.Lock(), 0))
            self._queues[key] = (lock, waiting + 1)
        held = lock.acquire(timeout=wait_s)
        try:
            yield held
        finally:
            if held:
                lock.release()
            with self._guard:
                lock, waiting = self._queues[key]
                if waiting == 1:
                    del self._queues[key]
                else:
                    self._queues[key] = (lock, waiting - 1)
