"""What `portal/compose.py` hands down to scheduling at the start: the knobs, and how to reach the nodes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from scheduling.core.cluster import Ask
from scheduling.core.policy import Policy
from scheduling.nodes.lease import STOP_GRACE_S


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
    #: for how long an enrolled node's containers may run without an answer to its agent
    lease_s: int = 30
    #: addresses of the gateways, to each of which enrolled nodes keep lines
    gateways: tuple[str, ...] = ()
    #: (node, epoch) -> the address with which its agent hears wakes, empty if there is none
    broker_for: Callable[[str, int], str] = lambda node, epoch: ""
    #: nobody hears the wakes of this node with its account any more
    cut_broker: Callable[[str], None] = lambda node: None

    #: whom alone work serves here, where nothing keeps two people's work apart; empty: everybody
    only_person: Callable[[], str] = lambda: ""
    #: asks that were found able to start of late, and until when (monotonic) that counts; this process's own
    could_start: dict[Ask, float] = field(default_factory=dict, init=False, compare=False)

    @property
    def fence_after_s(self) -> int:
        """From the last answer to a node until nothing of it can be running: the lease, then the time that its agent
        gives containers to end, and 10 s for what is slow."""
        return self.lease_s + STOP_GRACE_S + 10


_wiring: Wiring | None = None


def use(wiring: Wiring) -> None:
    global _wiring
    _wiring = wiring


def wired() -> Wiring:
    assert _wiring is not None, "portal.compose has not run"
    return _wiring
