"""What `portal/compose.py` hands down to workspaces at the start."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Wiring:
    #: of RUNNING time, for a workspace
    limit: timedelta
    #: argv of a workspace's server
    command: Callable[[], list[str]]
    #: a workspace's own origin for browsers, by workspace id, e.g. http://w-k3x….localhost:8001
    browser_origin: Callable[[str], str]
    #: where programs reach workspaces, e.g. http://localhost:8001
    gateway_url: str
    #: the only account that the process driver serves; everybody when empty
    only_person: Callable[[], str] = lambda: ""
    #: plain sentence when nobody but one person is admitted because no workspace domain is set
    notice: str = ""


_wiring: Wiring | None = None


def use(wiring: Wiring) -> None:
    global _wiring
    _wiring = wiring


def wired() -> Wiring:
    assert _wiring is not None, "portal.compose has not run"
    return _wiring
