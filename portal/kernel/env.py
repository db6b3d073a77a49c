"""Typed readers of BERTH_* variables. A bad value or an unknown name stops the start with one sentence."""

import difflib
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Network
from pathlib import Path
from urllib.parse import urlsplit

SHORTEST, LONGEST = timedelta(seconds=1), timedelta(days=3650)
HOST_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")


class BadSetting(Exception):
    """A BERTH_* variable cannot be read; the message says which, and what it may be."""


_known: set[str] = set()


def _raw(name: str, environ: Mapping[str, str] | None) -> str | None:
    _known.add(name)
    value = (os.environ if environ is None else environ).get(name)
    return None if value is None or value.strip() == "" else value.strip()


def env_str(name: str, default: str, *, choices: tuple[str, ...] = (), environ: Mapping[str, str] | None = None) -> str:
    value = _raw(name, environ)
    value = default if value is None else value
    if choices and value not in choices:
        raise BadSetting(f"{name} is '{value}'; it may be one of: {', '.join(choices)}.")
    return value


def env_int(name: str, default: int, *, low: int, high: int, environ: Mapping[str, str] | None = None) -> int:
    value = _raw(name, environ)
    if value is None:
        return default
    if not re.fullmatch(r"-?\d{1,18}", value) or not low <= int(value) <= high:
        raise BadSetting(f"{name} is '{value}'; it must be a whole number from {low} to {high}.")
    return int(value)


def env_bool(name: str, default: bool, *, environ: Mapping[str, str] | None = None) -> bool:
    value = _raw(name, environ)
    if value is None:
        return default
    if value.lower() in {"1", "true", "yes", "on"}:
        return True
    if value.lower() in {"0", "false", "no", "off"}:
        return False
    raise BadSetting(f"{name} is '{value}'; it must be yes or no.")


def env_duration(name: str, default: timedelta, *, environ: Mapping[str, str] | None = None) -> timedelta:
    """A number with a unit: 30s, 5m, 12h, 7d."""
    value = _raw(name, environ)
    if value is None:
        return default
    match = re.fullmatch(r"(\d{1,9})\s*([smhd])", value)
    if match is None:
        raise BadSetting(f"{name} is '{value}'; it must be a number with a unit, such as 30s, 5m, 12h or 7d.")
    seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    if not SHORTEST.total_seconds() <= seconds <= LONGEST.total_seconds():
        raise BadSetting(f"{name} is '{value}'; it must be from 1s to {LONGEST.days}d.")
    return timedelta(seconds=seconds)


def env_url(
    name: str, default: str, schemes: tuple[str, ...] = ("http", "https"), *, environ: Mapping[str, str] | None = None
) -> str:
    """Scheme, host and perhaps a port, as a browser's address bar has them; a slash at the end is taken away."""
    value = _raw(name, environ)
    value = default if value is None else value
    may_be = f"it must look like {schemes[0]}://host.example or {schemes[0]}://host.example:8000"
    if re.search(r"[\s\x00-\x1f\x7f]", value):
        raise BadSetting(f"{name} is '{value}', which has white space in it; {may_be}.")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError as error:  # an unclosed bracket, a port that is none
        raise BadSetting(f"{name} is '{value}', whose host or port cannot be read; {may_be}.") from error
    if parts.scheme not in schemes or not host:
        raise BadSetting(f"{name} is '{value}', which lacks {' or '.join(schemes)} or a host; {may_be}.")
    if port == 0 or parts.netloc.endswith(":"):
        raise BadSetting(f"{name} is '{value}', whose port is none; {may_be}.")
    if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise BadSetting(f"{name} is '{value}', which has more than a host and a port; {may_be}.")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def env_urls(name: str, default: str, *, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """One or more addresses as env_url reads them, with commas between."""
    value = _raw(name, environ)
    listed = [one.strip() for one in (default if value is None else value).split(",")]
    return tuple(env_url(name, default, environ={name: one}) for one in listed if one)


def env_networks(name: str, *, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """None, one or more IPv4 networks in CIDR notation, with commas between: 10.1.2.0/24, 10.9.0.7/32."""
    listed = tuple(one.strip() for one in (_raw(name, environ) or "").split(",") if one.strip())
    for one in listed:
        try:
            IPv4Network(one)
        except ValueError as error:
            raise BadSetting(f"{name} has '{one}', which is no network such as 10.1.2.0/24 ({error}).") from error
    return listed


def env_host_name(name: str, default: str, *, environ: Mapping[str, str] | None = None) -> str:
    """A name that can have sub-domains; an IP address cannot."""
    value = _raw(name, environ)
    labels = (default if value is None else value).lower().split(".")
    if not all(HOST_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit() or len(".".join(labels)) > 253:
        raise BadSetting(
            f"{name} is '{value}'; it must be a host name, such as work.example.org, without scheme, port or address."
        )
    return ".".join(labels)


def env_path(name: str, default: Path, *, environ: Mapping[str, str] | None = None) -> Path:
    value = _raw(name, environ)
    return (default if value is None else Path(value).expanduser()).absolute()


def env_secret(name: str, default: str = "", *, environ: Mapping[str, str] | None = None) -> str:
    """A secret from NAME, or from the file that NAME_FILE points to; never both."""
    value, file = _raw(name, environ), _raw(f"{name}_FILE", environ)
    if value is not None and file is not None:
        raise BadSetting(f"Both {name} and {name}_FILE are set; keep one of them.")
    if file is not None:
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise BadSetting(f"{name}_FILE points to '{file}', which cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise BadSetting(f"{name}_FILE points to '{file}', which is not a text in UTF-8.") from error
    return default if value is None else value


def refuse_unknown(prefix: str = "BERTH_", *, environ: Mapping[str, str] | None = None) -> None:
    """Call after everything was read: a misspelt variable must not be ignored in silence."""
    for name in sorted(os.environ if environ is None else environ):
        if name.startswith(prefix) and name not in _known:
            near = difflib.get_close_matches(name, _known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise BadSetting(f"{name} is not a setting of Berth{hint}")
