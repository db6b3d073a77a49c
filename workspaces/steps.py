"""The stepper of a start: queued, placed, pulling, starting, ready, each with its time. Pure: reads a JobDetail."""

from dataclasses import dataclass
from datetime import datetime

from scheduling.core.lifecycle import FINAL, JobState
from scheduling.selectors import JobDetail

LABELS = {
    "queued": "Queued",
    "placed": "Placed",
    "pulling": "Preparing",
    "starting": "Starting JupyterLab",
    "ready": "Ready",
}
#: in which state of the job each step happens; `placed` is a moment, `pulling` the time until the container is there
_STEP_OF = {
    JobState.QUEUED: "queued",
    JobState.PLACED: "pulling",
    JobState.STARTING: "starting",
    JobState.RUNNING: "ready",
}
_ORDER = list(LABELS)


@dataclass(frozen=True, slots=True)
class Step:
    """state: done, now, todo or failed. seconds: how long it took, or has taken so far; None while it is to come."""

    name: str
    label: str
    state: str
    seconds: float | None
    started_at: datetime | None


def steps_of(detail: JobDetail, *, now: datetime) -> tuple[Step, ...]:
    """The steps of the present attempt, from the history of the job."""
    spans: dict[str, tuple[datetime, datetime | None]] = {}
    current, failed = "queued", ""
    for move in detail.history:
        before = _STEP_OF.get(JobState(move.from_state)) if move.from_state else None
        if before and before in spans and spans[before][1] is None:
            spans[before] = (spans[before][0], move.at)
        state = JobState(move.to_state)
        if state in _STEP_OF:
            if state is JobState.QUEUED:
                spans = {}
            current = _STEP_OF[state]
            spans[current] = (move.at, None)
            failed = ""
        elif not failed and (state is JobState.STOPPING or state in FINAL):
            failed = before or current
    return tuple(_step(name, spans, current, failed, detail, now) for name in _ORDER)


def _step(
    name: str,
    spans: dict[str, tuple[datetime, datetime | None]],
    current: str,
    failed: str,
    detail: JobDetail,
    now: datetime,
) -> Step:
    label = LABELS[name]
    if name == "pulling" and detail.phase == "pulling":
        label = "Pulling the image"
    rank = _ORDER.index(name)
    if name == "placed":  # a moment, not a span: the node and the GPU are known from here on
        placed = spans.get("pulling")
        return Step(name, label, "done" if placed else "todo", None, placed[0] if placed else None)
    span = spans.get(name)
    if span is None:
        return Step(name, label, "todo", None, None)
    begun, ended = span
    seconds = ((ended or now) - begun).total_seconds()
    if name == failed:
        return Step(name, label, "failed" if name != "ready" else "done", seconds, begun)
    if name == current and not failed:
        return Step(name, label, "done" if name == "ready" else "now", None if name == "ready" else seconds, begun)
    return Step(name, label, "done" if rank <= _ORDER.index(current) else "todo", seconds, begun)
