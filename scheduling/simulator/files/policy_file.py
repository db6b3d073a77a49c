"""A policy file: the fields of `core.policy.Policy` as keys, each optional. Tiers and levels are lists."""

from dataclasses import MISSING, fields
from enum import StrEnum
from pathlib import Path

from scheduling.core.places.filters import ISLAND, NODE
from scheduling.core.policy import Policy, SizeRule, Tier
from scheduling.simulator.files.reading import Block, read_file

#: knobs by which something is divided, or without which nothing would be found
AT_LEAST_ONE = frozenset({"attained_base", "attained_levels", "suspend_mib_per_s", "resume_mib_per_s", "max_victims"})


def read_policy(path: Path) -> Policy:
    return read_file(path, _policy)


def _policy(block: Block) -> Policy:
    """Every knob by its own name and type, so that a new knob of the core is a key here without another line."""
    given: dict[str, object] = {}
    for knob in fields(Policy):
        if not block.has(knob.name):
            continue
        default = knob.default if knob.default is not MISSING else None
        if knob.name == "tiers":
            given["tiers"] = _tiers(block)
        elif isinstance(default, bool):
            given[knob.name] = block.boolean(knob.name, default)
        elif isinstance(default, int):
            given[knob.name] = block.integer(knob.name, default, least=int(knob.name in AT_LEAST_ONE))
        elif isinstance(default, StrEnum):
            given[knob.name] = _one_of(block, knob.name, type(default))
        elif isinstance(default, tuple) and all(isinstance(part, str) for part in default):
            given[knob.name] = _once(block, knob.name)
        else:
            raise block.bad(knob.name, "cannot be set in a file")
    policy = Policy(**given)  # type: ignore[arg-type]
    if policy.cpu_kept_percent > 100:
        raise block.bad("cpu_kept_percent", f"{policy.cpu_kept_percent} is more than 100")
    return policy


def _once(block: Block, key: str) -> tuple[str, ...]:
    names = block.names(key)
    for name in names:
        if names.count(name) > 1:
            raise block.bad(key, f"{name!r} comes twice")
        if name in (NODE, ISLAND):
            raise block.bad(key, f"{NODE!r} and {ISLAND!r} are always the narrowest levels and are not listed")
    return names


def _tiers(block: Block) -> tuple[Tier, ...]:
    tiers: list[Tier] = []
    for part in block.blocks("tiers"):
        tier = Tier(
            name=part.text("name"),
            critical=part.boolean("critical", False),
            size_rule=SizeRule(_one_of(part, "size_rule", SizeRule)) if part.has("size_rule") else SizeRule.NONE,
            rotate=part.boolean("rotate", False),
        )
        part.done()
        if tier.name in {other.name for other in tiers}:
            raise part.bad("name", f"the tier {tier.name!r} comes twice")
        tiers.append(tier)
    if not tiers:
        raise block.bad("tiers", "there must be at least one tier")
    return tuple(tiers)


def _one_of(block: Block, key: str, kind: type[StrEnum]) -> StrEnum:
    value = block.text(key)
    try:
        return kind(value)
    except ValueError:
        raise block.bad(key, f"{value!r} is none of {', '.join(kind)}") from None
