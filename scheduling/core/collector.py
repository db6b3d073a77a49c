"""The garbage collector waits while a plan is made.

It is there for objects that know each other in a ring, and a planner makes none: what it drops is freed at once (a test
counts). All that a collection in the middle of a plan does is walk through the whole cluster and find nothing.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """No collection begins inside; what is due comes afterwards. Where the caller has switched collections off, they
    stay off. The pause is the whole process's: other threads' rings are collected later by as long as a plan takes."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
