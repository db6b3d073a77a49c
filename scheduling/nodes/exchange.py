"""What an agent and the control plane say to each other: one exchange, level-triggered, safe to lose or repeat."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from scheduling.nodes.driver import ContainerSpec, Inventory, Observation, Sample


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
    """All of a node's containers at once, never a difference. Older versions are ignored."""

    version: int
    parts: tuple[DesiredPart, ...] = ()
    interval_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Report:
    """What the agent sees. `held_version` is the desired state that the observations were made against."""

    node: str
    boot_id: str
    held_version: int = 0
    inventory: Inventory | None = None
    observations: tuple[Observation, ...] = ()
    samples: tuple[Sample, ...] = ()
    trouble: str = ""


class Exchange(Protocol):
    def __call__(self, report: Report) -> Desired:
        """Deliver a report, get the desired state. Raises ConnectionError when the control plane does not answer."""


class InProcessExchange:
    """The one-process twin of the HTTPS exchange: a function call into `scheduling.observed`, handed in by compose."""

    def __init__(self, handle: Callable[[Report], Desired]) -> None:
        self._handle = handle

    def __call__(self, report: Report) -> Desired:
        return self._handle(report)
