"""How much a team may use, and when: rows that the scheduler reads in every cycle."""

from django.db import models
from django.db.models import Q

from tenants.models.people import Team

DAY_S = 86_400


class Quota(models.Model):
    """One team in one pool; amounts in units (a GPU is 42,000; in a pool without GPUs a thousandth of a core is one).

    `pool` is a name: what pools there are is the scheduler's knowledge. `percent_milli`: thousandths of a percent of
    what the pool really has, on top of `guaranteed`. Null limits mean that there is none. `weight` 0: only when nobody
    else wants it. Written by `tenants.quotas.set_quota`, which checks the tree.
    """

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="quotas")
    pool = models.SlugField(max_length=40)
    guaranteed = models.PositiveBigIntegerField(default=0)
    percent_milli = models.PositiveIntegerField(default=0)
    borrow_limit = models.PositiveBigIntegerField(null=True, blank=True)
    lend_limit = models.PositiveBigIntegerField(null=True, blank=True)
    weight = models.PositiveIntegerField(default=1)
    user_limit = models.PositiveBigIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["team_id", "pool"]
        constraints = [
            models.UniqueConstraint(fields=["team", "pool"], name="one_quota_per_team_and_pool"),
            models.CheckConstraint(condition=Q(percent_milli__lte=100_000), name="quota_percent_within_the_pool"),
        ]

    def __str__(self) -> str:
        return f"{self.team_id} in {self.pool}"


class TeamWindow(models.Model):
    """A daily span in which the team's jobs may start; a team without any may start work at any time.

    `days`: a bit for each weekday, Monday the lowest. `starts` and `ends`: seconds after midnight UTC; an end before
    its start runs over midnight and belongs to the day on which it starts.
    """

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="windows")
    days = models.PositiveSmallIntegerField(default=0b111_1111)
    starts = models.PositiveIntegerField()
    ends = models.PositiveIntegerField()

    class Meta:
        ordering = ["team_id", "id"]
        constraints = [
            models.CheckConstraint(condition=Q(days__gte=1) & Q(days__lte=0b111_1111), name="window_has_a_weekday"),
            models.CheckConstraint(condition=Q(starts__lt=DAY_S) & Q(ends__lte=DAY_S), name="window_lies_within_a_day"),
        ]
