"""The shapes of the exchange as JSON and back, read by their own type hints. Pure.

Unknown fields are ignored and absent ones take their defaults, so that an agent and a portal of neighbouring versions
understand each other. Anything else that does not fit is a BadMessage, which names the place.
"""

import dataclasses
import enum
import math
import types
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

_INTEGERS = range(-(2**63), 2**63)  # what the database's largest column holds


class BadMessage(ValueError):
    """What came is not what was agreed; the message is one sentence that says where."""


def encode(value: Any) -> Any:
    """Plain JSON data for a shape. Fields that hold their defaults are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: encode(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        }
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    return value


def decode(shape: type[T], data: Any) -> T:
    """The shape that `data` (as json.loads answers it) stands for. Raises BadMessage.

    Characters that no database stores (NUL, halves of surrogate pairs) become U+FFFD.
    """
    return cast(T, _read(shape, data, shape.__name__))


def _read(hint: Any, data: Any, at: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _read_shape(hint, data, at)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:
        return _read_tuple(inner, data, at)
    if origin in (types.UnionType, Union):  # always "this or None" here
        (kind,) = [one for one in inner if one is not type(None)]
        return None if data is None else _read(kind, data, at)
    return _read_plain(hint, data, at)


def _read_shape(shape: Any, data: Any, at: str) -> Any:
    if not isinstance(data, dict):
        raise BadMessage(f"{at} must be an object.")
    read = {}
    for name, hint, required in _fields(shape):
        if name in data:
            read[name] = _read(hint, data[name], f"{at}.{name}")
        elif required:
            raise BadMessage(f"{at}.{name} is missing.")
    return shape(**read)


@cache
def _fields(shape: Any) -> tuple[tuple[str, Any, bool], ...]:
    """(name, type, required) of each field."""
    hints = get_type_hints(shape)
    nothing = dataclasses.MISSING
    return tuple(
        (field.name, hints[field.name], field.default is nothing and field.default_factory is nothing)
        for field in dataclasses.fields(shape)
    )


def _read_tuple(inner: tuple[Any, ...], data: Any, at: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise BadMessage(f"{at} must be a list.")
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_read(inner[0], item, f"{at}[{index}]") for index, item in enumerate(data))
    if len(data) != len(inner):
        raise BadMessage(f"{at} must be a list of {len(inner)}.")
    return tuple(
        _read(kind, item, f"{at}[{index}]") for index, (kind, item) in enumerate(zip(inner, data, strict=True))
    )


def _read_plain(kind: Any, data: Any, at: str) -> Any:
    if issubclass(kind, enum.Enum):
        if data not in (known := [member.value for member in kind]):
            raise BadMessage(f"{at} must be one of: {', '.join(known)}.")
        return kind(data)
    if kind is str:
        if not isinstance(data, str):
            raise BadMessage(f"{at} must be a text.")
        return data.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")
    if kind is bool:
        if not isinstance(data, bool):
            raise BadMessage(f"{at} must be true or false.")
        return data
    if kind is int:
        if not isinstance(data, int) or isinstance(data, bool) or data not in _INTEGERS:
            raise BadMessage(f"{at} must be a whole number.")
        return data
    assert kind is float, f"{at}: nothing reads {kind}"
    if not isinstance(data, (int, float)) or isinstance(data, bool) or not _is_finite(data):
        raise BadMessage(f"{at} must be a number.")
    return float(data)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond every float
        return False
