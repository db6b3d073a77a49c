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
