"""What the scheduler remembers from cycle to cycle beside the jobs themselves."""

from django.db import models


class PastUse(models.Model):
    """The decayed mean of what a team, or one of its members, had above its guarantee in one pool, as of `at`.

    `team` and `person` are ids without foreign keys: the past of who has left goes on counting until it has faded.
    `person` 0: the team itself. `mean` is below 0 while a credit for lost work has not faded (`core/credit.py`).
    Brought up to date in the transaction of every change, see `records/usage.py`.
    """

    team = models.PositiveBigIntegerField()
    person = models.PositiveBigIntegerField(default=0)
    pool = models.SlugField(max_length=40)
    mean = models.BigIntegerField(default=0)
    at = models.PositiveBigIntegerField()  # seconds on the core's axis, so that the snapshot has the very number

    class Meta:
        ordering = ["pool", "team", "person"]
        constraints = [models.UniqueConstraint(fields=["team", "person", "pool"], name="one_past_per_holder_and_pool")]


class Outlook(models.Model):
    """The one row with what the last cycle promised: its reservations, as [{"job", "at", "pool", "nodes"}]."""

    at = models.DateTimeField()
    reserves = models.JSONField(default=list)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="there_is_one_outlook")]


class LoopRecord(models.Model):
    """The one row that says how the loop is doing: who leads it, its last cycle, and what last went wrong.

    Written by the leader, at most every few seconds while all is well. `failing`: how many cycles have failed since one
    that did not; `failures`: all of them.
    """

    leader = models.CharField(max_length=100)
    led_since_at = models.DateTimeField()
    cycle_at = models.DateTimeField(null=True)  # the end of the last cycle that did not fail
    took = models.DurationField(null=True)  # ... and how long it took
    waiting = models.PositiveIntegerField(default=0)  # jobs in its queue before it
    failing = models.PositiveIntegerField(default=0)
    failures = models.PositiveBigIntegerField(default=0)
    failed_at = models.DateTimeField(null=True)
    failure = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="there_is_one_loop")]
