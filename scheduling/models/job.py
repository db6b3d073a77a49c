"""Anything that wants resources, and the history of what became of it."""

from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings  # AUTH_USER_MODEL only
from django.db import models
from django.db.models import F, Q

from scheduling.core.lifecycle import FINAL, EndReason, JobEvent, JobState


def _choices(values: Iterable[str]) -> list[tuple[str, str]]:
    return [(str(value), str(value)) for value in values]


#: in a fixed order: a set's would make a new migration each time
_FINAL = sorted(str(state) for state in FINAL)


class Job(models.Model):
    """`state` is written by `transitions.move_job` alone."""

    team = models.ForeignKey("tenants.Team", on_delete=models.PROTECT, related_name="+")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=20, default="notebook")
    name = models.CharField(max_length=120)
    tier = models.CharField(max_length=20, default="normal")
    priority = models.IntegerField(default=0)  # the larger goes first, within tier and share
    preemptible = models.BooleanField(default=False)
    suspendable = models.BooleanField(default=False)  # may be suspended instead of stopped, where a node can do that
    min_runtime = models.DurationField(default=timedelta())  # once it runs it is left alone for so long
    not_before_at = models.DateTimeField(null=True)
    deadline_at = models.DateTimeField(null=True)  # when it must be over
    deadline_accepted = models.BooleanField(default=False)  # the forward run at submit met it; else it orders nothing
    promised_at = models.DateTimeField(null=True)  # the start that was estimated at submit, where it was asked for
    start_by_at = models.DateTimeField(null=True)  # the late end (P90) of the first estimate of its start

    # The page that shows it, as a live topic, e.g. "workspace.k3x…": its news goes there as well.
    face = models.CharField(max_length=40, blank=True)

    # What runs. Plain data for one container of each replica; secrets are never in here.
    image = models.CharField(max_length=300)
    command = models.JSONField(default=list)  # program and arguments; with a script, the script's arguments
    script = models.TextField(blank=True)  # what runs instead of a program of the image
    env = models.JSONField(default=dict)
    volume = models.CharField(max_length=120, blank=True)  # home volume, a name below the node's volume root
    port = models.PositiveIntegerField(default=0)
    probe_path = models.CharField(max_length=200, default="/")

    # What it asks for, per replica.
    replicas = models.PositiveIntegerField(default=1)
    gpus = models.PositiveIntegerField(default=0)  # whole cards
    mig = models.CharField(max_length=20, blank=True)  # or a MIG instance, by profile
    thousandths = models.PositiveSmallIntegerField(default=0)  # or a share of one card
    cpu_millis = models.PositiveIntegerField(default=1000)
    memory_mib = models.PositiveIntegerField(default=1024)
    limit = models.DurationField()  # of RUNNING time
    pools = models.JSONField(default=list)  # acceptable pools, best first; empty: any
    gpu_models = models.JSONField(default=list)  # acceptable models, best first; empty: any
    gpu_memory_mib = models.PositiveIntegerField(default=0)  # the least that each card must have
    required = models.CharField(max_length=40, blank=True)  # the topology level in which all replicas must lie
    preferred = models.CharField(max_length=40, blank=True)  # ... or should
    needs = models.JSONField(default=list)  # labels of the node: [{"key", "values", "absent"}]

    state = models.CharField(max_length=12, choices=_choices(JobState), default=JobState.QUEUED)
    # Counts moves: the guard of every update, and what a browser compares to drop older news.
    version = models.PositiveIntegerField(default=1)
    attempt = models.PositiveIntegerField(default=0)  # placements so far
    submitted_at = models.DateTimeField()
    since_at = models.DateTimeField()  # when the present state began
    running_at = models.DateTimeField(null=True)  # of the present attempt
    ended_at = models.DateTimeField(null=True)
    end_reason = models.CharField(max_length=20, blank=True, choices=_choices(EndReason))
    end_code = models.CharField(max_length=60, blank=True)  # the cause in detail, e.g. "image-missing"
    end_message = models.TextField(blank=True)  # one sentence for the person
    log_tail = models.TextField(blank=True)  # last lines, when it ended by itself
    exit_code = models.IntegerField(null=True)  # of the last process that ended by itself

    # What its life so far means for its next start.
    may_evict_from = models.DateTimeField(null=True)  # evicted itself, it takes free slots only until then
    attained = models.PositiveBigIntegerField(default=0)  # GPU-unit-seconds of service that count
    restarts = models.PositiveIntegerField(default=0)
    # How often it may be tried again, and has been, by cause (`records/retries.py`); no entry: as often as need be.
    retries = models.JSONField(default=dict)
    retry_exit_codes = models.JSONField(default=list)  # after these exit codes only; empty: after any
    retried = models.JSONField(default=dict)
    # Somebody cancelled it while it was already stopping for another reason, with these words: it does not come back.
    cancel_asked = models.CharField(max_length=200, null=True)

    # Why it waits: the code and the numbers of the last plan's Hold, and the terms that put it where it stands in the
    # queue. Written only when code or numbers change.
    hold_code = models.CharField(max_length=40, blank=True)
    hold_numbers = models.JSONField(default=dict)
    terms = models.JSONField(default=dict)

    # An array is one row, which never runs itself; a task becomes a row of its own when it gets a place, see `arrays`.
    array = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="tasks")
    array_index = models.PositiveIntegerField(null=True)
    array_spec = models.CharField(max_length=200, blank=True)  # as it was asked for, e.g. "0-99%8"; only on the array
    array_size = models.PositiveIntegerField(default=0)  # 0: not an array
    array_limit = models.PositiveIntegerField(null=True)  # so many of its tasks at a time
    array_waiting = models.JSONField(default=list)  # tasks that are no row yet, as [first, last, step]
    array_left = models.PositiveIntegerField(default=0)  # how many these are

    class Meta:
        ordering = ["-submitted_at", "-id"]
        indexes = [
            models.Index(fields=["submitted_at", "id"], name="job_live", condition=~Q(state__in=_FINAL)),
            models.Index(fields=["team", "-id"], name="job_by_team"),
            models.Index(fields=["state"], name="job_is_array", condition=Q(array_size__gt=0)),
            models.Index(fields=["array", "state"], name="job_by_array", condition=Q(array__isnull=False)),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=[str(s) for s in JobState]), name="job_state_is_known"),
            models.CheckConstraint(
                condition=Q(state__in=_FINAL, ended_at__isnull=False)
                | (~Q(state__in=_FINAL) & Q(ended_at__isnull=True)),
                name="job_ended_at_goes_with_a_final_state",
            ),
            models.CheckConstraint(
                condition=~Q(state=str(JobState.RUNNING)) | Q(running_at__isnull=False),
                name="job_running_has_running_at",
            ),
            models.CheckConstraint(condition=Q(replicas__gte=1), name="job_has_a_replica"),
            models.CheckConstraint(condition=Q(array_left__lte=F("array_size")), name="array_waits_for_its_own_tasks"),
            models.CheckConstraint(
                condition=Q(array_size=0) | Q(array__isnull=True, attempt=0), name="an_array_never_runs_itself"
            ),
            models.UniqueConstraint(
                fields=["array", "array_index"], condition=Q(array__isnull=False), name="one_row_per_task"
            ),
        ]

    def __str__(self) -> str:
        return f"job {self.pk} ({self.name})"


class JobTransition(models.Model):
    """One row per move, in the move's own transaction."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="transitions")
    attempt = models.PositiveIntegerField()
    from_state = models.CharField(max_length=12, blank=True)  # empty: the submission itself
    to_state = models.CharField(max_length=12, choices=_choices(JobState))
    event = models.CharField(max_length=12, choices=[("submit", "submit"), *_choices(JobEvent)])
    reason = models.CharField(max_length=20, blank=True)
    message = models.TextField(blank=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
