"""What is kept for somebody: slots that are being freed for one job, and nodes that a team has booked."""

from django.db import models
from django.db.models import F, Q

from scheduling.models.job import Job
from scheduling.models.node import Node, Slot


class Claim(models.Model):
    """The place of a job for which others are stopping, stored in the transaction that stops them.

    It bars everyone else (by `Slot.claimed_for`), counts as the job's use, and ends when the job leaves the queue, by
    its placement or its cancellation, or when it expires with victims still there. `victims`: (job, attempt) pairs.
    """

    job = models.OneToOneField(Job, on_delete=models.PROTECT, related_name="claim")
    pool = models.SlugField(max_length=40)
    made_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    victims = models.JSONField(default=list)

    class Meta:
        ordering = ["job_id"]
        constraints = [
            models.CheckConstraint(condition=Q(expires_at__gte=F("made_at")), name="claim_expires_after_it_was_made"),
        ]


class ClaimedSlot(models.Model):
    """A row of a claim, shaped like the Allocation that it becomes: one slot, CPU and memory on the lead row."""

    claim = models.ForeignKey(Claim, on_delete=models.CASCADE, related_name="slots")
    part = models.PositiveIntegerField()
    lead = models.BooleanField(default=False)
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="+")
    slot = models.OneToOneField(Slot, null=True, on_delete=models.PROTECT, related_name="claim")
    units = models.PositiveIntegerField(default=0)
    cpu_millis = models.PositiveIntegerField(default=0)
    memory_mib = models.PositiveIntegerField(default=0)
    charge = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["claim_id", "part", "id"]


class Booking(models.Model):
    """A calendar reservation: from `starts_at` to `ends_at` only the team and those below it use these nodes."""

    team = models.ForeignKey("tenants.Team", on_delete=models.PROTECT, related_name="+")
    nodes = models.ManyToManyField(Node, related_name="+")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["starts_at", "id"]
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="booking_ends_after_it_starts"),
        ]
