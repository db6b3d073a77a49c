"""YAML files that people write, read so that every mistake is named by the path of its key."""

import re
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")

#: what people write is small; numbers beyond are typing errors, and would only fail later and elsewhere
LARGEST_FILE, LARGEST, LONGEST_NAME = 16_000_000, 10**12, 200


class BadFile(Exception):
    """A cluster or policy file cannot be used as it is. The text names the file and the path of the key."""

    def __init__(self, file: str, path: str, what: str) -> None:
        self.file, self.path, self.what = file, path, what
        super().__init__(f"{file}: {path}: {what}" if path else f"{file}: {what}")


class _OnceLoader(yaml.SafeLoader):
    """Safe, and a key that comes twice is an error: YAML keeps the last, and nobody sees which one counted. Numbers are
    what they look like: in YAML 1.1 the time 20:00 is 1200, the rack 010 is 8, and a day is an object."""

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if tag.rpartition(":")[2] not in {"int", "float", "timestamp"}]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_OnceLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9_]{0,30})$"), list("-+0123456789")
)
_OnceLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]{1,3})?$"
        r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)


def _mapping_once(loader: _OnceLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise yaml.constructor.ConstructorError(
                None, None, f"{key_node.value!r} cannot be a key; write it in quotation marks", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} comes twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_OnceLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_once)


class Block:
    """One mapping of a file with its path. Every key that is not asked for is unknown: `done` says so."""

    def __init__(self, file: str, path: str, values: object) -> None:
        self.file, self.path = file, path
        if not isinstance(values, dict):
            raise self.bad("", f"is {_kind(values)}, not a mapping of keys to values")
        self._values = {str(key): value for key, value in values.items()}
        self._asked: set[str] = set()

    def bad(self, key: str, what: str) -> BadFile:
        return BadFile(self.file, self._at(key), what)

    def _at(self, key: str) -> str:
        key = key if len(key) <= LONGEST_NAME and key.isprintable() else repr(key[:LONGEST_NAME])
        return ".".join(filter(None, (self.path, key)))

    def done(self) -> None:
        for key in self._values:
            if key not in self._asked:
                raise self.bad(key, f"is not a key here; known: {', '.join(sorted(self._asked))}")

    def has(self, key: str) -> bool:
        self._asked.add(key)
        return self._values.get(key) is not None

    def names_of_keys(self) -> list[str]:
        self._asked.update(self._values)
        return list(self._values)

    def value(self, key: str) -> object:
        self._asked.add(key)
        return self._values.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._need(key, default)
        return self._name(key, value, "a name")

    def _name(self, key: str, value: object, what: str) -> str:
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise self.bad(key, f"is {_kind(value)}, not {what}")
        name = str(value)
        if len(name) > LONGEST_NAME:
            raise self.bad(key, f"is {len(name):,} characters long; at most {LONGEST_NAME} make a name")
        if not name.isprintable():
            raise self.bad(key, f"{name!r} has a control character in it")
        return name

    def integer(self, key: str, default: int | None = None, *, least: int = 0, most: int = LARGEST) -> int:
        value = self._need(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.bad(key, f"is {_kind(value)}, not a whole number")
        if value < least:
            raise self.bad(key, f"{value} is less than {least}")
        if value > most:
            raise self.bad(key, f"{value} is more than {most:,}")
        return value

    def number(self, key: str, default: float | None = None, *, least: float = 0) -> float:
        value = self._need(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.bad(key, f"is {_kind(value)}, not a number")
        if not isfinite(value):
            raise self.bad(key, f"is {value}, not a finite number")
        if value < least:
            raise self.bad(key, f"{value} is less than {least}")
        if value > LARGEST:
            raise self.bad(key, f"{value} is too large")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value = self._need(key, default)
        if not isinstance(value, bool):
            raise self.bad(key, f"is {_kind(value)}, neither true nor false")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        values = self._need(key, [])
        if not isinstance(values, list):
            raise self.bad(key, f"is {_kind(values)}, not a list of names")
        return tuple(self._name(f"{key}[{number}]", value, "a name") for number, value in enumerate(values))

    def block(self, key: str) -> "Block":
        self._asked.add(key)
        value = self._values.get(key)
        return Block(self.file, self._at(key), {} if value is None else value)

    def blocks(self, key: str) -> "list[Block]":
        """A list of mappings."""
        values = self._need(key, [])
        if not isinstance(values, list):
            raise self.bad(key, f"is {_kind(values)}, not a list")
        return [Block(self.file, f"{self._at(key)}[{number}]", value) for number, value in enumerate(values)]

    def _need(self, key: str, default: object) -> Any:
        self._asked.add(key)
        value = self._values.get(key)
        if value is None:
            if default is None:
                raise self.bad(key, "is missing")
            return default
        return value


def read_file(path: Path, make: Callable[[Block], T]) -> T:
    """Load one YAML file safely and build from it. Errors: BadFile."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            text = stream.read(LARGEST_FILE + 1)
        if len(text) > LARGEST_FILE:
            raise BadFile(str(path), "", f"is larger than {LARGEST_FILE:,} characters: nobody has written this by hand")
        values = yaml.load(text, Loader=_OnceLoader)
    except OSError as error:
        raise BadFile(str(path), "", f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadFile(str(path), "", "is not a text file in UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        what = getattr(error, "problem", None) or " ".join(str(error).split())
        raise BadFile(str(path), "", f"{where}{what}") from error
    except (ValueError, KeyError, AttributeError) as error:  # what the loader makes of `!!int red`
        raise BadFile(str(path), "", f"has a value that is not what its tag says: {error}") from error
    except RecursionError as error:
        raise BadFile(str(path), "", "is nested too deeply") from error
    block = Block(str(path), "", {} if values is None else values)
    made = make(block)
    block.done()
    return made


def _kind(value: object) -> str:
    names = {
        dict: "a mapping",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "empty" if value is None else type(value).__name__)
