"""An array ends with the last of its tasks. Looked at once a cycle, so that no task waits for its siblings' row."""

from collections import Counter
from datetime import datetime

from django.db import transaction
from django.db.models import Count, Exists, OuterRef

from scheduling.core.lifecycle import FINAL, EndReason, JobEvent, JobState
from scheduling.models import Job
from scheduling.transitions import StaleJob, move_job


def end_arrays(*, now: datetime) -> int:
    """End every array all of whose tasks have ended; answers how many. One query where there is none."""
    live = Job.objects.filter(array=OuterRef("pk")).exclude(state__in=FINAL)
    over = Job.objects.filter(array_size__gt=0, array_left=0, state=JobState.QUEUED).exclude(Exists(live))
    ended = 0
    for array in over:
        rows = Job.objects.filter(array=array).order_by().values_list("state").annotate(count=Count("pk"))
        reason, message = _outcome(Counter(dict(rows)), array.array_size)
        try:
            with transaction.atomic():
                move_job(array, JobEvent.END, now=now, reason=reason, code=str(reason), message=message)
            ended += 1
        except StaleJob:  # somebody cancelled it in this very moment
            continue
    return ended


def _outcome(ended: Counter[str], size: int) -> tuple[EndReason, str]:
    if ended[JobState.SUCCEEDED] == size:
        return EndReason.SUCCEEDED, f"All {size} tasks succeeded."
    words = {JobState.FAILED: "failed", JobState.TIMED_OUT: "reached the time limit", JobState.CANCELLED: "cancelled"}
    told = ", ".join(f"{ended[state]} {word}" for state, word in words.items() if ended[state])
    lost = ended[JobState.FAILED] or ended[JobState.TIMED_OUT]
    return EndReason.EXITED if lost else EndReason.CANCEL, f"Of {size} tasks {told}."
