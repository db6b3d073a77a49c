"""The launch form: what was typed, kept as typed, and what it asks for. Pure: a mapping and the choices go in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from urllib.parse import urlencode

from workspaces.choices import ImageChoice, LaunchChoices

FIELDS = ("team", "image", "gpus", "cpus", "memory_gib", "name")
# Short enough that no number overflows a column, strict enough that no "1e999" becomes one.
_WHOLE = re.compile(r"\d{1,6}", re.ASCII)
_DECIMAL = re.compile(r"\d{1,6}([.,]\d{1,3})?", re.ASCII)

_KEY = re.compile(r"[\w-]{1,64}", re.ASCII)

NO_NUMBER = {
    "gpus": "The number of GPUs must be a whole number such as 1.",
    "cpus": "CPU must be a number of cores such as 2 or 0.5.",
    "memory_gib": "Memory must be a number of GiB such as 4 or 1.5.",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """What is handed to `launch_workspace`."""

    team: str
    image: str
    gpus: int
    cpu_millis: int
    memory_mib: int
    name: str


@dataclass(frozen=True, slots=True)
class Option:
    n: str
    label: str
    hint: str
    enabled: bool
    chosen: bool


@dataclass(frozen=True, slots=True)
class ImageOption:
    slug: str
    name: str
    summary: str
    available: bool
    why_not: str
    chosen: bool


@dataclass
class LaunchForm:
    """Attributes named like FIELDS hold what was typed, or the last choice."""

    choices: LaunchChoices
    team: str
    image: str
    gpus: str
    cpus: str
    memory_gib: str
    name: str
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def ask(self) -> Ask | None:
        """None, with `errors` filled, when a number is none."""
        for name, pattern in (("gpus", _WHOLE), ("cpus", _DECIMAL), ("memory_gib", _DECIMAL)):
            if not pattern.fullmatch(getattr(self, name).strip()):
                self.errors[name] = NO_NUMBER[name]
        if self.errors:
            return None
        return Ask(
            team=self.team,
            image=self.image,
            gpus=int(self.gpus),
            cpu_millis=_thousandths(self.cpus),
            memory_mib=_thousandths(self.memory_gib) * 1024 // 1000,
            name=self.name,
        )

    def refuse(self, *, field: str, sentence: str) -> None:
        """Put a sentence beside its field, or above the form if it belongs to none."""
        self.errors[field if field in FIELDS else "general"] = sentence

    @property
    def first_error(self) -> str:
        return next(iter(self.errors.values()), "")

    @property
    def query(self) -> str:
        """The whole form as a query string: a URL that prefills it."""
        return urlencode({name: getattr(self, name) for name in FIELDS if getattr(self, name)})

    @property
    def teams(self) -> tuple[str, ...]:
        return self.choices.teams

    @property
    def images(self) -> list[ImageOption]:
        return [
            ImageOption(i.slug, i.name, i.summary, i.available, i.why_not, i.slug == self.image)
            for i in self.choices.images
        ]

    @property
    def gpu_options(self) -> list[Option]:
        return [
            Option(
                n=str(option.count),
                label=option.label,
                hint=_gpu_hint(option.count, option.free_now) if option.enabled else option.why_not,
                enabled=option.enabled,
                chosen=str(option.count) == self.gpus.strip(),
            )
            for option in self.choices.gpu_options
        ]

    @property
    def image_name(self) -> str:
        return next((image.name for image in self.choices.images if image.slug == self.image), "no image")

    @property
    def gpus_label(self) -> str:
        return next((option.label for option in self.gpu_options if option.chosen), f"{self.gpus} GPUs")

    @property
    def cpus_hint(self) -> str:
        return f"0.1 to {self.choices.max_cpu_millis / 1000:g}"

    @property
    def memory_gib_hint(self) -> str:
        return f"0.5 to {gib_text(self.choices.max_memory_mib)}"

    @property
    def why_not(self) -> str:
        """Why nothing at all can be launched now; empty when something can."""
        if not self.choices.teams:
            return "You are in no team that may run work yet; ask an admin to add you to one."
        usable: list[ImageChoice] = [image for image in self.choices.images if image.available]
        if not usable:
            reasons = {image.why_not for image in self.choices.images if image.why_not}
            return " ".join(sorted(reasons)) or "No machine has reported yet; this takes a few seconds after a start."
        return ""

    @property
    def possible(self) -> bool:
        return not self.why_not


def launch_form(typed: Mapping[str, str], choices: LaunchChoices) -> LaunchForm:
    """What was typed, and the last choice for what was not."""
    last = choices.last
    known = {
        "team": last.team,
        "image": last.image,
        "gpus": str(last.gpus),
        "cpus": f"{last.cpu_millis / 1000:g}",
        "memory_gib": gib_text(last.memory_mib),
        "name": "",
    }
    said = {name: typed.get(name, known[name])[:300] for name in FIELDS}
    form = LaunchForm(choices=choices, **said)  # type: ignore[arg-type]
    # PostgreSQL takes no NUL in a comparison; as a replacement character it is simply unknown.
    form.team, form.image = form.team.replace("\0", "\ufffd"), form.image.replace("\0", "\ufffd")
    return form


def launch_key(typed: Mapping[str, str]) -> str:
    """The key that the form was rendered with; empty, which guards nothing, for what no form of ours sends."""
    key = typed.get("launch_key", "")
    return key if _KEY.fullmatch(key) else ""


def gib_text(mib: int) -> str:
    """Rounded down to two places, so that the largest size shown is one that can be had."""
    return f"{mib * 100 // 1024 / 100:g}"


def _thousandths(text: str) -> int:
    return int(Decimal(text.strip().replace(",", ".")) * 1000)


def _gpu_hint(count: int, free_now: int) -> str:
    if count == 0:
        return ""
    return "free now" if free_now else "none free now: it would wait"
