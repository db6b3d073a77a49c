"""What of an ask may be changed, and how far: alternatives that are tried one by one, and numbers that are turned down
only as far as it takes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from scheduling.core import mig
from scheduling.core.cluster import Ask, Cluster
from scheduling.core.places.filters import ISLAND, NODE

#: the steps in which numbers are turned down: a minute, a tenth of a core, a quarter of a GiB, a GiB of a GPU
MINUTE, TENTH_CORE, QUARTER_GIB, GIB = 60, 100, 256, 1024


@dataclass(frozen=True, slots=True)
class Change:
    """`what` names the field, `value` its new value; `ask` is the job as it would be."""

    what: str
    value: str
    ask: Ask


@dataclass(frozen=True, slots=True)
class Dial:
    """A number of an ask that may be less: `steps` of them, from 1 for the least; `turned` is the change at one."""

    what: str
    steps: int
    turned: Callable[[int], Change]


def alternatives(
    ask: Ask, cluster: Cluster, *, levels: Sequence[str], tiers: Sequence[str], pools: Sequence[str]
) -> list[list[Change]]:
    """Other pools and models, looser topology, other tiers: of each sort the mildest first."""
    shape = ask.shape
    models = sorted({gpu.model for node in cluster.nodes for gpu in node.gpus if gpu.model})
    more_pools = [pool for pool in pools if shape.pools and pool not in shape.pools]
    more_models = [model for model in models if shape.models and model not in shape.models]
    return [
        [_reshaped(ask, "pool", pool, pools=(*shape.pools, pool)) for pool in more_pools],
        [_reshaped(ask, "model", model, models=(*shape.models, model)) for model in more_models],
        list(_softer(ask, levels)),
        [Change("tier", tier, replace(ask, tier=tier)) for tier in tiers if tier != ask.tier],
    ]  # fmt: skip


def _softer(ask: Ask, levels: Sequence[str]) -> Iterator[Change]:
    known = ("", *levels, NODE, ISLAND)
    if ask.shape.required in known[1:]:
        for level in reversed(known[: known.index(ask.shape.required)]):
            yield _reshaped(ask, "topology", level or "anywhere", required=level)


def dials(ask: Ask, cluster: Cluster) -> list[Dial]:
    """A shorter limit, less CPU or memory beside the GPUs, fewer replicas, fewer GPUs, less of one; as far as it asks
    for more than the least of each."""
    shape = ask.shape
    found = [
        _less(
            "limit_s", ask.limit_s, MINUTE, lambda value: Change("limit_s", str(value), replace(ask, limit_s=value))
        ),
        _field(ask, "cpu_millis", TENTH_CORE), _field(ask, "memory_mib", QUARTER_GIB),
        _field(ask, "gpu_memory_mib", GIB), _field(ask, "replicas", 1),
        _less("gpus", shape.gpus, 1, lambda value: _with_gpus(ask, value)), _field(ask, "thousandths", 1),
    ]  # fmt: skip
    if shape.mig:
        names = smaller_profiles(shape.mig, (g.model for n in cluster.nodes for g in n.gpus if g.mig))
        found.append(Dial("mig", len(names), lambda step: _reshaped(ask, "mig", names[step - 1], mig=names[step - 1])))
    return [dial for dial in found if dial.steps > 0]


def smaller_profiles(asked: str, models: Iterable[str]) -> list[str]:
    """MIG instances smaller than the one that is asked for, the smallest first, named as the ask is: with their memory
    or by compute slices alone."""
    known = {profile.name: profile for model in set(models) for profile in mig.PROFILES.get(model, {}).values()}
    plain = [profile for name, profile in sorted(known.items()) if "+" not in name]
    if "." not in asked:
        return [f"{compute}g" for compute in sorted({p.compute for p in plain}) if compute < int(asked.split("g")[0])]
    most = known[asked].units if asked in known else 0
    return [profile.name for profile in sorted(plain, key=lambda p: (p.units, p.name)) if profile.units < most]


def _less(what: str, asked: int, step: int, change: Callable[[int], Change]) -> Dial:
    return Dial(what, (asked - 1) // step, lambda number: change(number * step))


def _field(ask: Ask, what: str, step: int) -> Dial:
    return _less(what, getattr(ask.shape, what), step, lambda value: _reshaped(ask, what, value, **{what: value}))


def _with_gpus(ask: Ask, gpus: int) -> Change:
    """Fewer GPUs, with their part of CPU and memory."""
    shape = ask.shape
    return _reshaped(
        ask, "gpus", gpus, gpus=gpus,
        cpu_millis=shape.cpu_millis * gpus // shape.gpus, memory_mib=shape.memory_mib * gpus // shape.gpus,
    )  # fmt: skip


def _reshaped(ask: Ask, what: str, value: object, **changes: object) -> Change:
    return Change(what, str(value), replace(ask, shape=replace(ask.shape, **changes)))  # type: ignore[arg-type]
