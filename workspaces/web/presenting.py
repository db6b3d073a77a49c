"""A workspace in words and shapes: what each state is called, how it looks, the one thing to do about it. Pure."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from workspaces.selectors import WorkspaceView
from workspaces.steps import Step


@dataclass(frozen=True, slots=True)
class Look:
    """word, shape and colour of a state: never one of them alone."""

    word: str
    icon: str
    tone: str  # good work wait bad off
    verb: str  # the one main verb: open cancel start retry, or none
    say: str  # what a screen reader hears when it begins


LOOKS = {
    "queued": Look("Queued", "queued", "wait", "cancel", "Waiting in the queue."),
    "placed": Look("Placed", "working", "work", "cancel", "Placed on a machine."),
    "pulling": Look("Pulling", "working", "work", "cancel", "Pulling the image."),
    "starting": Look("Starting", "working", "work", "cancel", "Starting JupyterLab."),
    "ready": Look("Ready", "ready", "good", "open", "JupyterLab is ready."),
    "stopping": Look("Stopping", "working", "off", "", "Stopping."),
    "stopped": Look("Stopped", "stopped", "off", "start", "Stopped."),
    "failed": Look("Failed", "failed", "bad", "retry", "It failed."),
}
MOVING = frozenset({"queued", "placed", "pulling", "starting", "stopping"})

_STEP_ICONS = {"done": "done", "now": "working", "todo": "todo", "failed": "failed"}
_STEP_WORDS = {"done": "done", "now": "in progress", "todo": "to come", "failed": "failed"}
_FAILED_AT = {
    "queued": "It could not be placed",
    "placed": "It could not be placed",
    "pulling": "Its container could not be made",
    "starting": "JupyterLab did not start",
    "ready": "JupyterLab ended",
}


@dataclass(frozen=True, slots=True)
class Gpus:
    """Equal cards together, e.g. "2 × NVIDIA H100"."""

    text: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class Meter:
    percent: int
    text: str


@dataclass(frozen=True, slots=True)
class StepRow:
    name: str
    label: str
    state: str
    icon: str
    word: str
    seconds: float | None
    detail: str = ""
    gpus: bool = False
    meter: Meter | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """Everything about one workspace that a template shows and a WorkspaceView does not already say."""

    workspace: WorkspaceView
    look: Look
    gpus: tuple[Gpus, ...]
    left: float | None  # seconds until its time limit
    waited: float | None  # seconds in the present step, while it moves
    steps: tuple[StepRow, ...]
    total: float | None  # seconds from submit to ready

    @property
    def moving(self) -> bool:
        return self.workspace.status in MOVING

    @property
    def verb(self) -> str:
        return self.look.verb

    @property
    def can_stop(self) -> bool:
        return self.workspace.status == "ready"

    @property
    def can_delete(self) -> bool:
        return self.workspace.status in ("stopped", "failed")

    @property
    def time_label(self) -> str:
        return "Waiting" if self.workspace.status == "queued" else "So far" if self.moving else "Time left"

    @property
    def steps_title(self) -> str:
        return self.headline if self.moving else "Its start" if self.workspace.status == "ready" else "Its last start"

    @property
    def headline(self) -> str:
        w = self.workspace
        match w.status:
            case "queued":
                return f"Waiting in the queue, place {w.place}" if w.place else "Waiting in the queue"
            case "placed":
                return f"Placed on {w.node}"
            case "pulling":
                return f"Pulling the image onto {w.node}"
            case "starting":
                return f"JupyterLab is starting on {w.node}" if w.node else "JupyterLab is starting"
            case "ready":
                return "JupyterLab is ready"
            case "failed":
                at = next((step.name for step in w.steps if step.state == "failed"), "ready")
                return _FAILED_AT[at]
            case _:
                return self.look.word

    @property
    def explanation(self) -> str:
        w = self.workspace
        kept = f"A place is kept for it from {w.kept_from:%d %b %H:%M} UTC at the latest." if w.kept_from else ""
        return " ".join(part for part in (w.reason if w.status != "ready" else "", kept, w.trouble) if part)

    @property
    def fix(self) -> str:
        return self.workspace.remedy if self.workspace.status == "failed" else ""

    @property
    def kept(self) -> str:
        w = self.workspace
        if w.status not in ("stopped", "failed", "stopping"):
            return ""
        return f"Kept: your home folder {w.home} with every file in it. Kernels, terminals and unsaved edits are gone."

    @property
    def line(self) -> str:
        """The sentence below a row of the rack, where its state needs one."""
        w = self.workspace
        if w.status == "queued":
            place = f"Place {w.place} in the queue. " if w.place else ""
            return place + self.explanation
        return self.explanation if w.status == "failed" else w.trouble

    @property
    def relaunch(self) -> str:
        """The launch form, filled in as this one was."""
        w = self.workspace
        return "/launch?" + urlencode(
            {
                "team": w.team,
                "image": w.image_slug,
                "gpus": w.gpus,
                "cpus": f"{w.cpu_millis / 1000:g}",
                "memory_gib": f"{w.memory_mib / 1024:g}",
            }
        )


def card_of(w: WorkspaceView, *, now: datetime) -> Card:
    current = next((step for step in w.steps if step.state == "now"), None)
    ready = next((step for step in w.steps if step.name == "ready" and step.started_at), None)
    first = next((step for step in w.steps if step.started_at), None)
    return Card(
        workspace=w,
        look=LOOKS[w.status],
        gpus=_gpus(w),
        left=max(0.0, (w.ends_at - now).total_seconds()) if w.ends_at else None,
        waited=current.seconds if current and w.status in MOVING else None,
        steps=tuple(_step_row(step, w) for step in w.steps),
        total=_span(first, ready),
    )


def edition(cards: list[Card]) -> str:
    """Changes with anything that the cards show, ticking seconds apart; fit for an ETag."""
    told = "\n".join(f"{card.workspace.id} {card.workspace.name} {card.workspace.etag}" for card in cards)
    return hashlib.sha256(told.encode(errors="replace")).hexdigest()[:20]


def pace(cards: list[Card]) -> str:
    """How eagerly the page asks without being told: something moves, or nothing does."""
    return "busy" if any(card.moving for card in cards) else "calm"


def counted(cards: list[Card]) -> str:
    """E.g. "3 in all: 1 ready, 2 stopped"."""
    words = Counter(card.look.word.lower() for card in cards)
    parts = ", ".join(f"{count} {word}" for word, count in words.items())
    return parts if len(words) == 1 else f"{len(cards)} in all: {parts}"


def said(card: Card) -> str:
    """What a screen reader hears; changes once per step and not with every number."""
    w = card.workspace
    if w.status in ("queued", "failed"):
        return f"{card.headline}. {card.explanation}".strip()
    if w.status in ("placed", "starting"):
        return f"{card.headline}."
    return card.look.say


def _gpus(w: WorkspaceView) -> tuple[Gpus, ...]:
    if not w.gpu_models:
        return (Gpus("none" if w.gpus == 0 else f"{w.gpus} GPU{'s' if w.gpus > 1 else ''}", False),)
    kinds = Counter((model, simulated) for model, simulated, _ in w.gpu_models)
    return tuple(Gpus(f"{n} × {model}" if n > 1 else model, simulated) for (model, simulated), n in kinds.items())


def _step_row(step: Step, w: WorkspaceView) -> StepRow:
    detail, gpus, meter = "", False, None
    if step.name == "placed" and step.state == "done" and w.node:
        detail, gpus = f"on {w.node}" + (" with " if w.gpus else ""), bool(w.gpus)
    if step.name == "pulling" and step.state == "now" and w.progress:
        meter = _meter(*w.progress)
    return StepRow(
        name=step.name,
        label=step.label,
        state=step.state,
        icon=_STEP_ICONS[step.state],
        word=_STEP_WORDS[step.state],
        seconds=step.seconds,
        detail=detail,
        gpus=gpus,
        meter=meter,
    )


def _meter(done: int, total: int) -> Meter | None:
    """None while the size is unknown: a bar that lies is worse than none."""
    if total <= 0:
        return None
    percent = min(100, done * 100 // total)
    return Meter(percent, f"{percent} % · {done // 1_000_000:,} of {total // 1_000_000:,} MB")


def _span(first: Step | None, ready: Step | None) -> float | None:
    if not (first and ready and first.started_at and ready.started_at):
        return None
    return (ready.started_at - first.started_at).total_seconds()
