"""MIG: which instances a card may be cut into, where each may start, and what a re-cut may touch.

The facts come with `mig_profiles.json` (H100 and H200 read from real cards with driver 580.159.04, `nvidia-smi mig
-lgip` and `-lgipp`; A100 from NVIDIA's MIG user guide). A card has 7 compute slices and 8 memory slots; an instance
of m memory slots may start only where its profile says. So 3g + 3g and 4g + 3g fit, 4g + 4g does not.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from scheduling.core.cluster import Instance
from scheduling.core.units import GPU_UNITS
from scheduling.core.units import mig as units_of

COMPUTE_SLICES = 7
MEMORY_SLOTS = 8


@dataclass(frozen=True, slots=True)
class Profile:
    """One row of the table. `starts`: allowed first memory slots; `most`: instances of it that one card can have."""

    name: str
    compute: int
    memory_mib: int
    memory_slots: int
    starts: tuple[int, ...]
    most: int

    @property
    def units(self) -> int:
        return units_of(compute_slices=self.compute, memory_slots=self.memory_slots)

    def mask(self, start: int) -> int:
        """The memory slots that it covers, as bits."""
        return ((1 << self.memory_slots) - 1) << start


def _load() -> dict[str, dict[str, Profile]]:
    rows = json.loads((Path(__file__).parent / "mig_profiles.json").read_text())["models"]
    return {
        model: {
            p["name"]: Profile(
                p["name"], p["compute"], p["memory_mib"], p["memory_slots"], tuple(p["starts"]), p["max"]
            )
            for p in facts["profiles"]
        }
        for model, facts in rows.items()
    }


#: model -> profile name -> facts
PROFILES = _load()


@lru_cache(maxsize=4096)
def wanted(model: str, ask: str, memory_mib: int) -> tuple[Profile, ...]:
    """The profiles of `model` that satisfy an ask, smallest first: a name (`2g.20gb`), or slices alone (`2g`), with at
    least `memory_mib` each. Profiles with extra engines (`+me`) only by their full name: a card has one."""
    known = PROFILES.get(model, {})
    if ask in known:
        rows = [known[ask]]
    else:
        rows = [p for p in known.values() if p.name.split(".")[0] == ask and "+" not in p.name]
    return tuple(sorted((p for p in rows if p.memory_mib >= memory_mib), key=lambda p: (p.units, p.name)))


def legal(model: str, layout: Iterable[Instance]) -> bool:
    """May these instances exist on one card together?"""
    known = PROFILES.get(model, {})
    mask = compute = 0
    count: dict[str, int] = {}
    for instance in layout:
        profile = known.get(instance.profile)
        if profile is None or instance.start not in profile.starts or profile.mask(instance.start) & mask:
            return False
        mask |= profile.mask(instance.start)
        compute += profile.compute
        count[profile.name] = count.get(profile.name, 0) + 1
        if count[profile.name] > profile.most:
            return False
    return compute <= COMPUTE_SLICES


@lru_cache(maxsize=65536)
def starts(model: str, profile: Profile, held: tuple[Instance, ...]) -> tuple[int, ...]:
    """Where a new instance of `profile` may go beside those that are held; best first.

    Best leaves the most for large instances: of the starts that fit, the one that destroys the fewest further
    placements, counted over all profiles by their units. Ties go to the highest start, so that slot 0, where a 4g
    must start, lasts.
    """
    fitting = [s for s in profile.starts if legal(model, (*held, Instance(profile.name, s)))]
    return tuple(sorted(fitting, key=lambda s: (-_room(model, (*held, Instance(profile.name, s))), -s)))


def _room(model: str, held: tuple[Instance, ...]) -> int:
    """How much could still be placed: units of every single further instance that would fit, over all profiles."""
    return sum(
        p.units for p in PROFILES[model].values() for s in p.starts if legal(model, (*held, Instance(p.name, s)))
    )


def recut(
    model: str, layout: Iterable[Instance], held: tuple[Instance, ...], new: Instance
) -> tuple[Instance, ...] | None:
    """Which free instances must go so that `new` can be made, or None if even without them it cannot.

    Only what is in its way: an instance that overlaps it, then, where compute slices or the number of instances bind,
    the smallest free ones. Nobody holds any of them.
    """
    profile = PROFILES[model][new.profile]
    if not legal(model, (*held, new)):
        return None
    free = sorted((i for i in layout if i not in held), key=lambda i: (PROFILES[model][i.profile].units, i.start))
    gone = [i for i in free if PROFILES[model][i.profile].mask(i.start) & profile.mask(new.start)]
    rest = [i for i in free if i not in gone]
    while not legal(model, (*held, *rest, new)):
        gone.append(rest.pop(0))
    return tuple(gone)


def stranded(model: str, layout: Iterable[Instance]) -> int:
    """Units of a card that no legal instance can use any more beside these: booked to the pool, not to a team."""
    layout = tuple(layout)
    if not layout:
        return 0
    return max(0, GPU_UNITS - sum(PROFILES[model][i.profile].units for i in layout) - _most(model, layout))


def uncovered(model: str, layout: Iterable[Instance]) -> int:
    """The same for a card that stays cut like this: what none of its instances covers."""
    known = PROFILES.get(model, {})
    return GPU_UNITS - sum(known[i.profile].units for i in layout if i.profile in known)


@lru_cache(maxsize=65536)
def _most(model: str, layout: tuple[Instance, ...]) -> int:
    """The most units that further instances can still cover."""
    best = 0
    for p in PROFILES[model].values():
        for s in p.starts:
            more = tuple(sorted((*layout, Instance(p.name, s)), key=lambda i: (i.start, i.profile)))
            if legal(model, more):
                best = max(best, p.units + _most(model, more))
    return best
