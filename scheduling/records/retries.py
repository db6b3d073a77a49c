"""May a job that lost its place, or failed, run again? By cause, each counted by itself.

A job without rules of its own (a workspace) returns whenever its place was taken from it, and never after it failed.
"""

from collections.abc import Mapping

from scheduling.core.lifecycle import REQUEUED, RETRIED, EndReason
from scheduling.models import Job

#: what a cause covers; eviction is none, for it is the scheduler's own doing: who was evicted always returns
CAUSES: dict[str, frozenset[EndReason]] = {
    "node_lost": REQUEUED - {EndReason.EVICT},
    "exit": frozenset({EndReason.EXITED}),
    "launch": RETRIED - {EndReason.EXITED},
}
#: the rules of a job that names none
DEFAULT: Mapping[str, int] = {"node_lost": 10, "exit": 0, "launch": 0}
MOST = 1000

#: a process that ended so was ended by its machine, not by itself
MACHINE_FAULTS = frozenset({"machine-restarted", "engine-restarted", "vanished"})


def cause_of(reason: EndReason) -> str:
    """Empty: there are no rules for it."""
    return next((cause for cause, reasons in CAUSES.items() if reason in reasons), "")


def runs_again(job: Job) -> bool:
    """Whether it goes back to the queue, judged as it stops: by its end reason, exit code and earlier tries."""
    reason = EndReason(job.end_reason)
    if reason is EndReason.EVICT:
        return True
    cause = cause_of(reason)
    if not job.retries:
        return reason in REQUEUED
    if cause == "exit" and job.retry_exit_codes and job.exit_code not in job.retry_exit_codes:
        return False
    return job.retried.get(cause, 0) < job.retries.get(cause, 0)


def counted(job: Job) -> dict[str, int]:
    """What `retried` is once this try has been counted."""
    cause = cause_of(EndReason(job.end_reason))
    return {**job.retried, cause: job.retried.get(cause, 0) + 1} if cause else dict(job.retried)
