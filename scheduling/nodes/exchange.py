"""What an agent and the control plane say to each other: one exchange, level-triggered, safe to lose or repeat."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from scheduling.nodes.driver import ContainerSpec, Inventory, Observation, Sample
from scheduling.nodes.health import Health
from scheduling.nodes.portal_client import NotAnswered, PortalClient
from scheduling.nodes.wire import BadMessage, decode, encode

JOIN_PATH, EXCHANGE_PATH = "/api/v1/nodes/join", "/api/v1/nodes/exchange"


@dataclass(frozen=True, slots=True)
class DesiredPart:
    """One container that the control plane knows of on this node.

    run: it should be there; otherwise it should go. launched: the control plane has seen it started, so if it is absent
    it vanished, and must not be started a second time.
    """

    spec: ContainerSpec
    run: bool
    launched: bool


@dataclass(frozen=True, slots=True)
class Desired:
    """All of a node's containers at once, never a difference. An older (epoch, version) is ignored.

    epoch: counted up when versions begin anew, as after a restored backup. lease_s: for how long the node may go on
    without a further answer, counted from when it sent the report that this one answers; 0: for ever. gateways: where
    the node keeps lines to, so that browsers reach its containers. broker: where and as whom it hears wakes, told when
    the report asked for it; empty: it is not woken.
    """

    version: int
    parts: tuple[DesiredPart, ...] = ()
    interval_s: float = 2.0
    epoch: int = 0
    lease_s: float = 0.0
    gateways: tuple[str, ...] = ()
    broker: str = ""

    @property
    def age(self) -> tuple[int, int]:
        return self.epoch, self.version


@dataclass(frozen=True, slots=True)
class Report:
    """What the agent sees. `held_epoch` and `held_version` name the desired state that it was compared with.

    agent, start, sequence: which process speaks (a random name, and the count of starts on its disk) and how many
    reports it has made, so that a second agent and a late report are known as such. Empty and 0 in one process, where
    neither can be. health: of every card, if it was looked at; always with the end of something that had one. unwoken:
    it could be woken through a broker, and is not yet. orphans: containers of ours that the held state does not know.
    """

    node: str
    boot_id: str
    held_version: int = 0
    inventory: Inventory | None = None
    observations: tuple[Observation, ...] = ()
    samples: tuple[Sample, ...] = ()
    health: tuple[Health, ...] = ()
    trouble: str = ""
    held_epoch: int = 0
    orphans: int = 0
    agent: str = ""
    start: int = 0
    sequence: int = 0
    unwoken: bool = False


class Exchange(Protocol):
    def __call__(self, report: Report) -> Desired:
        """Deliver a report, get the desired state. Raises ConnectionError when the control plane does not answer."""


class InProcessExchange:
    """The one-process twin of the HTTPS exchange: a function call into `scheduling.observed`, handed in by compose."""

    def __init__(self, handle: Callable[[Report], Desired]) -> None:
        self._handle = handle

    def __call__(self, report: Report) -> Desired:
        return self._handle(report)


class HttpExchange:
    """The exchange with a portal elsewhere. Remembers the last desired state, for an unchanged one is not sent again.

    agent: a random name of this process. start: how many times an agent has begun with this node's files.
    """

    def __init__(self, client: PortalClient, *, key: str, agent: str, start: int) -> None:
        self._client = client
        self._key = key
        self._agent = agent
        self._start = start
        self._sequence = 0
        self._last = Desired(version=0)

    def __call__(self, report: Report) -> Desired:
        self._sequence += 1
        held = self._last
        report = replace(report, agent=self._agent, start=self._start, sequence=self._sequence)
        if (report.held_epoch, report.held_version) != held.age:
            # What was answered last was not taken; ask for all of it again.
            report = replace(report, held_epoch=0, held_version=0)
        answer = self._client.post(EXCHANGE_PATH, encode(report), key=self._key)
        try:
            unchanged = isinstance(answer, dict) and bool(answer.pop("unchanged", False))
            desired = decode(Desired, answer)
        except BadMessage as error:
            raise NotAnswered(f"The portal's answer cannot be read: {error}") from error
        if unchanged and desired.age != held.age:
            raise NotAnswered("The portal calls a desired state unchanged that it has not told.")
        if unchanged:
            desired = replace(desired, parts=held.parts)
        self._last = desired
        return desired
