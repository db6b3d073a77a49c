"""What a program may ask for when it submits a job, read from JSON into a JobSpec: one sentence for the first mistake.

Amounts are what people count in (cores, GiB, GPUs, seconds or `2h`); the spec has them in the core's units.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from rest_framework import serializers

from scheduling.core.cluster import Need
from scheduling.records import ranges, retries
from scheduling.submission.spec import DEFAULT_LIMIT, JobSpec

LONGEST_LIMIT = timedelta(days=365)
_MOST = 10_000
_LONGEST_TEXT = 100_000  # of a script or an argument: the kernel takes 128 KiB in one
_MOST_WORDS = 1_000
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}", re.ASCII)
_DURATION = re.compile(r"(\d{1,9})\s*([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FAR = timedelta(days=3650)


class Duration(serializers.Field[timedelta, Any, Any, Any]):
    """Whole seconds, or a number with a unit: 30s, 5m, 12h, 7d."""

    default_error_messages = {
        "form": "Write whole seconds, or a number with a unit such as 30s, 5m, 12h or 7d.",
        "range": "It must be from {low} to 365 days.",
    }

    def __init__(self, *, low: timedelta, **more: Any) -> None:
        self.low = low
        super().__init__(**more)

    def to_internal_value(self, data: Any) -> timedelta:
        match = _DURATION.fullmatch(data.strip()) if isinstance(data, str) else None
        if match:
            seconds = int(match[1]) * _SECONDS[match[2]]
        elif isinstance(data, int) and not isinstance(data, bool):
            seconds = data
        else:
            self.fail("form")
        if not self.low.total_seconds() <= seconds <= LONGEST_LIMIT.total_seconds():
            self.fail("range", low=f"{self.low.total_seconds():g} seconds")
        return timedelta(seconds=seconds)


class Amount(serializers.FloatField):
    """A number; neither infinite nor none."""

    def to_internal_value(self, data: Any) -> float:
        value: float = super().to_internal_value(data)
        if isinstance(data, bool) or not math.isfinite(value):
            self.fail("invalid")
        return value


class Whole(serializers.IntegerField):
    """A whole number, not `true`."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool):
            self.fail("invalid")
        value: int = super().to_internal_value(data)
        return value


def _names(longest: int) -> serializers.ListField:
    return serializers.ListField(child=serializers.CharField(max_length=longest), max_length=50, default=list)


def _words() -> serializers.ListField:
    word = serializers.CharField(max_length=_LONGEST_TEXT, allow_blank=True, trim_whitespace=False)
    return serializers.ListField(child=word, max_length=_MOST_WORDS, default=list)


class JobInput(serializers.Serializer[dict[str, Any]]):
    """See docs/jobs.md for what each field means."""

    team = serializers.CharField(max_length=60, default="", allow_blank=True)
    name = serializers.CharField(max_length=100, default="", allow_blank=True)
    # what runs
    image = serializers.CharField(max_length=300, default="", allow_blank=True)
    command = _words()
    args = _words()
    script = serializers.CharField(max_length=_LONGEST_TEXT, default="", allow_blank=True, trim_whitespace=False)
    env = serializers.DictField(
        child=serializers.CharField(max_length=_LONGEST_TEXT, allow_blank=True, trim_whitespace=False), default=dict
    )
    home = serializers.BooleanField(default=True)
    # what each replica needs
    gpus = Whole(min_value=0, max_value=_MOST, default=0)
    mig = serializers.RegexField(r"^\d{1,2}g(\.\d{1,4}gb)?$", default="", allow_blank=True)
    gpu_share = Amount(min_value=0.001, max_value=1, default=None, allow_null=True)
    gpu_memory_gib = Amount(min_value=0, max_value=_MOST, default=0)
    gpu_models = _names(80)
    pools = _names(40)
    labels = serializers.DictField(child=serializers.ListField(), default=dict)
    within = serializers.CharField(max_length=40, default="", allow_blank=True)
    preferably_within = serializers.CharField(max_length=40, default="", allow_blank=True)
    replicas = Whole(min_value=1, max_value=_MOST, default=1)
    cpus = Amount(min_value=0.001, max_value=_MOST, default=1.0)
    memory_gib = Amount(min_value=0.01, max_value=1_000_000, default=1.0)
    # when, before whom, how often
    time_limit = Duration(low=timedelta(seconds=1), default=DEFAULT_LIMIT)
    tier = serializers.CharField(max_length=40, default="normal")
    priority = Whole(min_value=-1000, max_value=1000, default=0)
    preemptible = serializers.BooleanField(default=True)
    min_runtime = Duration(low=timedelta(0), default=timedelta(0))
    not_before = serializers.DateTimeField(default=None, allow_null=True, default_timezone=UTC)
    deadline = serializers.DateTimeField(default=None, allow_null=True, default_timezone=UTC)
    retries = serializers.DictField(child=Whole(min_value=0, max_value=retries.MOST), default=dict)
    retry_exit_codes = serializers.ListField(child=Whole(min_value=1, max_value=255), max_length=255, default=list)
    array = serializers.CharField(max_length=200, default="", allow_blank=True)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, dict) else []
        if unknown:
            raise serializers.ValidationError(
                {str(unknown[0])[:60]: f"There is no such field; known: {', '.join(self.fields)}."}
            )
        return super().to_internal_value(data)

    def validate_env(self, env: dict[str, str]) -> dict[str, str]:
        for name in env:
            if not _VARIABLE.fullmatch(name):
                raise serializers.ValidationError(f"'{name[:40]}' cannot be the name of a variable.")
            if name.startswith("BERTH_"):
                raise serializers.ValidationError(f"{name[:40]}: names that begin with BERTH_ are set by Berth itself.")
        if sum(len(name) + len(value) for name, value in env.items()) > _LONGEST_TEXT:
            raise serializers.ValidationError(f"All variables together may have {_LONGEST_TEXT:,} characters.")
        return env

    def validate_labels(self, labels: dict[str, list[Any]]) -> dict[str, list[str]]:
        for key, values in labels.items():
            plain = all(isinstance(value, str) and 0 < len(value) <= 200 and "\0" not in value for value in values)
            if not (0 < len(key.removeprefix("!")) <= 200 and "\0" not in key and plain) or len(values) > 50:
                raise serializers.ValidationError("It maps names of labels to lists of the values that are accepted.")
        return labels

    def validate_retries(self, rules: dict[str, int]) -> dict[str, int]:
        for cause in rules:
            if cause not in retries.CAUSES:
                known = ", ".join(retries.CAUSES)
                raise serializers.ValidationError(f"There is no cause '{cause[:40]}'; known: {known}.")
        return rules

    def validate_not_before(self, moment: datetime | None) -> datetime | None:
        return _near(moment)

    def validate_deadline(self, moment: datetime | None) -> datetime | None:
        return _near(moment)

    def validate_name(self, name: str) -> str:
        if not name.isprintable():
            raise serializers.ValidationError("A name has no control characters.")
        return name

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["script"].strip() and attrs["command"]:
            raise serializers.ValidationError({"script": "Give either a command or a script, not both."})
        if not attrs["script"].strip() and not attrs["command"]:
            raise serializers.ValidationError({"command": "Say what to run: a command, or a script."})
        if attrs["command"] and not attrs["command"][0].strip():
            raise serializers.ValidationError({"command": "The first word of a command is the program; it is empty."})
        total = sum(len(word) for word in (*attrs["command"], *attrs["args"], attrs["script"]))
        if total > 10 * _LONGEST_TEXT:
            raise serializers.ValidationError(
                {"args": f"Command, arguments and script together may have {10 * _LONGEST_TEXT:,} characters."}
            )
        if sum(bool(attrs[way]) for way in ("gpus", "mig", "gpu_share")) > 1:
            raise serializers.ValidationError({"gpus": "Ask for GPUs in one way only: gpus, mig or gpu_share."})
        if attrs["array"] and attrs["deadline"]:
            raise serializers.ValidationError({"deadline": "Only a single job can have a deadline, not an array."})
        return attrs


def _near(moment: datetime | None) -> datetime | None:
    """Beyond some years a date is a slip of the hand, and sums with it overflow."""
    if moment is not None and not datetime(2000, 1, 1, tzinfo=UTC) < moment < datetime(2100, 1, 1, tzinfo=UTC):
        raise serializers.ValidationError("It must lie between the years 2000 and 2100.")
    return moment


def spec_of(asked: Mapping[str, Any], *, home: str) -> JobSpec:
    """From validated input. home: the volume that is the person's home in the team."""
    script = asked["script"] if asked["script"].strip() else ""
    program = asked["command"][0].rsplit("/", 1)[-1] if asked["command"] else "script"
    printable = "".join(letter for letter in program if letter.isprintable())
    return JobSpec(
        kind="batch",
        name=(asked["name"].strip() or printable or "job")[:100],
        image=asked["image"],
        command=(*asked["command"], *asked["args"]),
        script=script,
        env=asked["env"],
        volume=home if asked["home"] else "",
        gpus=asked["gpus"],
        mig=asked["mig"],
        thousandths=round((asked["gpu_share"] or 0) * 1000),
        gpu_memory_mib=round(asked["gpu_memory_gib"] * 1024),
        gpu_models=tuple(asked["gpu_models"]),
        pools=tuple(asked["pools"]),
        needs=tuple(
            Need(key.removeprefix("!"), tuple(values), absent=key.startswith("!"))
            for key, values in asked["labels"].items()
        ),
        required=asked["within"],
        preferred=asked["preferably_within"],
        replicas=asked["replicas"],
        cpu_millis=round(asked["cpus"] * 1000),
        memory_mib=max(1, round(asked["memory_gib"] * 1024)),
        limit=asked["time_limit"],
        tier=asked["tier"],
        priority=asked["priority"],
        preemptible=asked["preemptible"],
        min_runtime=asked["min_runtime"],
        not_before=asked["not_before"],
        deadline=asked["deadline"],
        retries={**retries.DEFAULT, **asked["retries"]},
        retry_exit_codes=tuple(sorted(set(asked["retry_exit_codes"]))),
        array=ranges.parse(asked["array"]) if asked["array"] else None,
    )
