"""A snapshot, its policy and its moment as JSON, so that any cycle can be planned again, to the identical plan."""

import json
import types
import typing
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any

from scheduling.core.cluster import Cluster
from scheduling.core.policy import Policy
from scheduling.core.quota import children_first

FORMAT = 1


class UnreadableDump(ValueError):
    """The text is no dump of this version."""


def dump(cluster: Cluster, policy: Policy, now: int) -> str:
    """Rows in the order in which they come; values that are the default are left out."""
    content = {"format": FORMAT, "now": now, "policy": _plain(policy), "cluster": _plain(cluster)}
    return json.dumps(content, separators=(",", ":"))


def load(text: str) -> tuple[Cluster, Policy, int]:
    """What `dump` was given. Raises UnreadableDump."""
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise UnreadableDump(f"this is format {content['format']}, not {FORMAT}")
        cluster = _read(Cluster, content["cluster"])
        _check(cluster)
        return cluster, _read(Policy, content["policy"]), _read(int, content["now"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as why:
        raise UnreadableDump(f"not a dump of a snapshot: {why}") from why


def _check(cluster: Cluster) -> None:
    """What is held must be there. (A node may be gone while something still runs there.)"""
    cards = {node.id: {gpu.id for gpu in node.gpus} for node in cluster.nodes}
    held = [*((ask.job, ask.pinned) for ask in cluster.asks), *((run.job, run.parts) for run in cluster.runs),
            *((claim.job, claim.parts) for claim in cluster.claims)]  # fmt: skip
    for job, parts in held:
        for part in parts:
            absent = {piece.gpu for piece in part.pieces} - cards.get(part.node, {piece.gpu for piece in part.pieces})
            if absent:
                raise ValueError(f"job {job} holds GPU {min(absent)}, which node {part.node} does not have")
    children_first({team.id: team for team in cluster.teams})


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(v) for f in fields(value) if (v := getattr(value, f.name)) != f.default}
    if isinstance(value, tuple):
        return [_plain(member) for member in value]
    return value.value if isinstance(value, Enum) else value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _read(kind: Any, value: Any) -> Any:
    """The value as its annotation says: dataclasses, tuples of them, enums, or None."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _read(next(a for a in arguments if a is not types.NoneType), value)
    if origin is tuple:
        each = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_read(a, member) for a, member in zip(each, value, strict=True))
    if is_dataclass(kind):
        hints = _hints(kind)  # type: ignore[arg-type]
        return kind(**{name: _read(hints[name], member) for name, member in value.items()})  # type: ignore[operator]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if type(value) is not kind:
        raise TypeError(f"{value!r} where {getattr(kind, '__name__', kind)} is expected")
    return value
