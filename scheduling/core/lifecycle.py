"""The life of a job in one table: from a state, an event leads to a state, and every ending is a reason.

Pure. `scheduling/transitions.py` is the only place that applies it to a row.
"""

from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "queued"
    PLACED = "placed"
    STARTING = "starting"
    RUNNING = "running"
    SUSPENDING = "suspending"
    SUSPENDED = "suspended"
    RESUMING = "resuming"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT})
#: holds slots and is charged for them
HOLDING = frozenset(
    {
        JobState.PLACED,
        JobState.STARTING,
        JobState.RUNNING,
        JobState.SUSPENDING,
        JobState.RESUMING,
        JobState.STOPPING,
    }
)
LIVE = frozenset(JobState) - FINAL


class JobEvent(StrEnum):
    PLACE = "place"
    LAUNCHED = "launched"
    READY = "ready"
    SUSPEND = "suspend"
    SUSPENDED = "suspended"
    REFUSED = "refused"
    STOP = "stop"
    RELEASED = "released"
    END = "end"


class EndReason(StrEnum):
    """Why a job stopped or ended. The final state follows from it."""

    SUCCEEDED = "succeeded"  # its process ended with 0
    EXITED = "exited"  # its process ended by itself, with another code
    CANCEL = "cancel"  # somebody asked for it
    NEVER_FITS = "never_fits"
    DEPENDENCY = "dependency"
    LAUNCH_REFUSED = "launch_refused"
    PLACE_TIMEOUT = "place_timeout"
    START_TIMEOUT = "start_timeout"
    TIMED_OUT = "timed_out"  # it reached its time limit
    EVICT = "evict"
    IDLE = "idle"
    NODE_LOST = "node_lost"
    GPU_SICK = "gpu_sick"
    HOST_MEMORY = "host_memory"
    PARKED_TOO_LONG = "parked_too_long"
    RESUME_FAILED = "resume_failed"
    PORTAL_STOPPED = "portal_stopped"  # the one-process portal was stopped and its workspaces with it


S, E, R = JobState, JobEvent, EndReason

_ENDS_BY_ITSELF = frozenset({R.SUCCEEDED, R.EXITED})
_ANY_TIME = frozenset({R.CANCEL, R.NODE_LOST, R.PORTAL_STOPPED, R.GPU_SICK})

#: (state, event) -> next state. None: the reason decides, see final_state.
TABLE: dict[tuple[JobState, JobEvent], JobState | None] = {
    (S.QUEUED, E.PLACE): S.PLACED,
    (S.QUEUED, E.END): None,
    (S.PLACED, E.LAUNCHED): S.STARTING,
    (S.PLACED, E.STOP): S.STOPPING,
    (S.STARTING, E.READY): S.RUNNING,
    (S.STARTING, E.STOP): S.STOPPING,
    (S.RUNNING, E.SUSPEND): S.SUSPENDING,
    (S.RUNNING, E.STOP): S.STOPPING,
    (S.SUSPENDING, E.SUSPENDED): S.SUSPENDED,
    (S.SUSPENDING, E.REFUSED): S.RUNNING,
    (S.SUSPENDING, E.STOP): S.STOPPING,
    (S.SUSPENDED, E.PLACE): S.RESUMING,
    (S.SUSPENDED, E.STOP): S.STOPPING,
    (S.RESUMING, E.READY): S.RUNNING,
    (S.RESUMING, E.STOP): S.STOPPING,
    (S.STOPPING, E.RELEASED): None,
}

#: which reasons may accompany END and STOP in each state
REASONS: dict[tuple[JobState, JobEvent], frozenset[EndReason]] = {
    # With SUCCEEDED and EXITED only an array ends so, whose row never leaves the queue: it ends with its last task.
    (S.QUEUED, E.END): frozenset({R.CANCEL, R.NEVER_FITS, R.DEPENDENCY}) | _ENDS_BY_ITSELF,
    (S.PLACED, E.STOP): _ANY_TIME | {R.EVICT, R.LAUNCH_REFUSED, R.PLACE_TIMEOUT},
    (S.STARTING, E.STOP): _ANY_TIME | _ENDS_BY_ITSELF | {R.EVICT, R.LAUNCH_REFUSED, R.START_TIMEOUT},
    (S.RUNNING, E.STOP): _ANY_TIME | _ENDS_BY_ITSELF | {R.TIMED_OUT, R.EVICT, R.IDLE},
    (S.SUSPENDING, E.STOP): _ANY_TIME | _ENDS_BY_ITSELF | {R.TIMED_OUT, R.EVICT},
    (S.SUSPENDED, E.STOP): _ANY_TIME | _ENDS_BY_ITSELF | {R.HOST_MEMORY, R.PARKED_TOO_LONG},
    (S.RESUMING, E.STOP): _ANY_TIME | {R.RESUME_FAILED, R.EVICT},
}

#: reasons after which the work itself is still wanted: it goes back to the queue instead of ending
REQUEUED = frozenset({R.EVICT, R.NODE_LOST, R.GPU_SICK, R.HOST_MEMORY, R.PARKED_TOO_LONG, R.RESUME_FAILED})

#: reasons after which it may be tried again, where whoever submitted it allowed that
RETRIED = frozenset({R.EXITED, R.LAUNCH_REFUSED, R.PLACE_TIMEOUT, R.START_TIMEOUT})

_FINAL_BY_REASON: dict[EndReason, JobState] = {
    R.SUCCEEDED: S.SUCCEEDED,
    R.CANCEL: S.CANCELLED,
    R.PORTAL_STOPPED: S.CANCELLED,
    R.IDLE: S.CANCELLED,
    R.TIMED_OUT: S.TIMED_OUT,
}


class IllegalMove(Exception):
    """The table has no such move: the caller's picture of the job is stale, or the caller is wrong."""


def final_state(reason: EndReason, *, requeue: bool = False) -> JobState:
    """Where a job ends up after `reason`. `requeue`: it may run again, so losing its place, or failing, only sends it
    back."""
    if requeue and reason in REQUEUED | RETRIED:
        return S.QUEUED
    return _FINAL_BY_REASON.get(reason, S.FAILED)


def next_state(state: JobState, event: JobEvent, *, reason: EndReason | None = None, requeue: bool = False) -> JobState:
    """The state after `event`. Raises IllegalMove for a move, or a reason, that the table does not have."""
    if (state, event) not in TABLE:
        raise IllegalMove(f"{state} has no {event}")
    allowed = REASONS.get((state, event))
    if allowed is not None and reason not in allowed:
        raise IllegalMove(f"{state} cannot {event} because of {reason}")
    target = TABLE[state, event]
    if target is not None:
        return target
    if reason is None:
        raise IllegalMove(f"{event} from {state} needs a reason")
    return final_state(reason, requeue=requeue)
