"""What `portal/compose.py` hands down to scheduling at the start: the knobs, and how to reach the nodes."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from scheduling.core.policy import Policy


@dataclass(frozen=True)
class Wiring:
    policy: Policy
    #: ask for a scheduling cycle soon; called after commit, may be called from any thread
    hint_tick: Callable[[], None]
    #: tell a node's agent, by name, that its desired state may have changed; losing the call costs one interval
    wake_node: Callable[[str], None]
    #: the secret of the server inside one allocation's container, by allocation id
    server_token: Callable[[int], str]
    #: a node that has not reported for so long is not offered new work
    silent_after: timedelta = timedelta(seconds=30)


_wiring: Wiring | None = None


def use(wiring: Wiring) -> None:
    global _wiring
    _wiring = wiring


def wired() -> Wiring:
    assert _wiring is not None, "portal.compose has not run"
    return _wiring
