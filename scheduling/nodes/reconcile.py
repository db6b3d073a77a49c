"""What an agent should do about the difference between what is wanted and what is there. Pure."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from scheduling.nodes.driver import ContainerSpec, Observation, Phase
from scheduling.nodes.exchange import DesiredPart

ORPHAN_GRACE_S = 5
LEASE_OVER = "lease-over"
LEASE_OVER_SENTENCE = "Its node could not reach the portal for so long that it had to end it."


@dataclass(frozen=True, slots=True)
class Actions:
    """What one round has to do, by allocation id."""

    launch: tuple[ContainerSpec, ...] = ()
    probe: tuple[ContainerSpec, ...] = ()
    stop: tuple[tuple[str, int], ...] = ()  # (allocation, grace in seconds)


@dataclass(slots=True)
class Launch:
    """A launch under way, or one that failed for lack of an engine and will be tried again."""

    under_way: bool = True
    progress: tuple[int, int] | None = None
    away_since: float | None = None


@dataclass(slots=True)
class Memory:
    """What the agent remembers between rounds. All of it may be lost at any moment without harm, but for `overdue`,
    which is on its disk (lease.py)."""

    launches: dict[str, Launch] = field(default_factory=dict)
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)
    ready: dict[str, tuple[str, int]] = field(default_factory=dict)
    probing: dict[str, ContainerSpec] = field(default_factory=dict)
    stopping: set[str] = field(default_factory=set)
    overdue: set[str] = field(default_factory=set)  # ended by this agent because their lease was over


def diff(parts: Sequence[DesiredPart], seen: Mapping[str, Observation], memory: Memory) -> Actions:
    """What to do so that the machine matches. Never launches what was launched before: if it is absent, it vanished."""
    launch, probe, stop = [], [], []
    for part in parts:
        key = part.spec.allocation
        if not part.run:
            there = key in seen or key in memory.launches
            if there and key not in memory.stopping:
                stop.append((key, part.spec.grace_s))
            continue
        here = seen.get(key)
        if key in memory.overdue:
            if here is not None and key not in memory.stopping:
                stop.append((key, ORPHAN_GRACE_S))
            continue
        under_way = key in memory.launches and memory.launches[key].under_way
        # Made but never started: whoever launched it died in between, and the driver's launch finishes it.
        halfway = here is not None and here.phase is Phase.STARTING and _is_unfinished(part.spec, here)
        if here is None or halfway:
            at_rest = not under_way and key not in memory.refused and key not in memory.stopping
            if at_rest and (halfway or not part.launched):
                launch.append(part.spec)
        elif here.phase is Phase.STARTING and here.address and part.spec.port:
            asked = key in memory.ready or key in memory.probing
            probe += [] if asked else [part.spec]
    wanted = {part.spec.allocation for part in parts}
    stop += [(key, ORPHAN_GRACE_S) for key in seen if key not in wanted and key not in memory.stopping]
    return Actions(launch=tuple(launch), probe=tuple(probe), stop=tuple(stop))


def describe(
    parts: Sequence[DesiredPart], seen: Mapping[str, Observation], memory: Memory, busy: Set[str] = frozenset()
) -> list[Observation]:
    """One observation for each desired container that there is anything to say of.

    busy: allocations that were being launched or stopped when `seen` was taken. Their absence from it proves nothing: a
    container may have come to be a moment later.
    """
    said = []
    for part in parts:
        key = part.spec.allocation
        here, launch = seen.get(key), memory.launches.get(key)
        if not part.run:
            if here is None and launch is None and key not in memory.stopping and key not in busy:
                said.append(Observation(key, Phase.GONE))
        elif key in memory.overdue:  # whatever is left of it goes; its exit is our doing and says nothing
            if here is None and launch is None and key not in memory.stopping and key not in busy:
                said.append(Observation(key, Phase.GONE, code=LEASE_OVER, message=LEASE_OVER_SENTENCE))
        elif key in memory.refused and here is None:
            code, message = memory.refused[key]
            said.append(Observation(key, Phase.REFUSED, code=code, message=message))
        elif here is not None and here.phase is Phase.STARTING and _is_ready(part.spec, here, memory, busy):
            said.append(Observation(key, Phase.READY, address=here.address, image_digest=here.image_digest))
        elif here is not None:
            said.append(here)
        elif launch is not None:
            if launch.progress is not None:
                said.append(Observation(key, Phase.PULLING, progress=launch.progress))
        elif part.launched and key not in memory.stopping and key not in busy:
            said.append(
                Observation(key, Phase.GONE, code="vanished", message="Its container was removed from outside Berth.")
            )
    return said


def _is_unfinished(spec: ContainerSpec, here: Observation) -> bool:
    return not here.started or (here.address is None and spec.port > 0)


def _is_ready(spec: ContainerSpec, here: Observation, memory: Memory, busy: Set[str]) -> bool:
    """A server has answered the probe; what serves nothing is ready once it runs and its launch has said so: a
    container runs for a moment before it turns out that its program is not there."""
    key = spec.allocation
    launched = not (key in busy or key in memory.launches or key in memory.refused)
    return key in memory.ready or (not spec.port and here.started and launched)
