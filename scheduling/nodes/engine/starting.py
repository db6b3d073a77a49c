"""Did the main process start? The engine only knows that the container's init did, which then tries to become it."""

import time
from pathlib import Path
from typing import Any

from portal.kernel import clock
from scheduling.nodes.driver import LaunchRefused
from scheduling.nodes.engine.client import Engine
from scheduling.nodes.engine.endings import FATAL, LOG_LINES, ending

_PATIENCE_S = 1.0
_LOOK_EVERY_S = 0.005


def refuse_if_it_cannot_run(engine: Engine, container: str, *, allocation: str) -> None:
    """Return once init's child runs the program that was asked for, within milliseconds; LaunchRefused if it cannot.

    Where the engine's processes cannot be seen from here, return after a moment: then observe() tells of the failure.
    """
    until = clock.monotonic() + _PATIENCE_S
    while clock.monotonic() < until:
        found = engine.api.inspect_container(container)
        if not found["State"]["Running"]:
            _refuse_if_never_started(engine, found, allocation=allocation)
            return
        if _runs_its_program(found["State"]["Pid"]):
            return
        time.sleep(_LOOK_EVERY_S)


def _runs_its_program(init: int) -> bool:
    """Whether a child of init is another program than init: before its exec it still is a copy."""
    try:
        children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
        own = Path(f"/proc/{init}/exe").readlink()
        return any(Path(f"/proc/{child}/exe").readlink() != own for child in children)
    except OSError:  # it ended between two looks, or it is hidden from us
        return False


def _refuse_if_never_started(engine: Engine, found: dict[str, Any], *, allocation: str) -> None:
    log = engine.api.logs(found["Id"], stdout=True, stderr=True, tail=LOG_LINES)
    if FATAL in log:
        end = ending(allocation, found["State"], image=found["Config"]["Image"], memory_bytes=0, log=log)
        raise LaunchRefused(end.code, end.message)
