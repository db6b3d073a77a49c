"""Who holds which slot, from when to when: the lock, the desired state and the invoice in one row."""

from django.db import models
from django.db.models import F, Q

from scheduling.models.job import Job
from scheduling.models.node import Node, Slot
from scheduling.nodes.driver import Phase


class Allocation(models.Model):
    """One hold of one slot by one attempt of a job; a part that needs no GPU holds its CPU and memory without a slot.

    All rows of one replica (`part`) on a node share one container, keyed by the row with `lead` set. Never edited after
    `released_at` is written.
    """

    job = models.ForeignKey(Job, on_delete=models.PROTECT, related_name="allocations")
    attempt = models.PositiveIntegerField()
    part = models.PositiveIntegerField(default=0)
    lead = models.BooleanField(default=False)
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="allocations")
    slot = models.ForeignKey(Slot, null=True, on_delete=models.PROTECT, related_name="allocations")
    units = models.PositiveIntegerField(default=0)
    cpu_millis = models.PositiveIntegerField(default=0)  # of the whole part, on the lead row
    memory_mib = models.PositiveIntegerField(default=0)
    charge = models.PositiveBigIntegerField(default=0)  # what the whole part costs its team, in units; on the lead row
    held_at = models.DateTimeField()
    released_at = models.DateTimeField(null=True)

    # What the node last said of the part's container.
    phase = models.CharField(max_length=10, blank=True, choices=[(str(p), str(p)) for p in Phase])
    phase_at = models.DateTimeField(null=True)
    progress_done = models.PositiveBigIntegerField(default=0)  # bytes of the image so far
    progress_total = models.PositiveBigIntegerField(default=0)  # 0: not known
    image_digest = models.CharField(max_length=100, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["slot"], condition=Q(released_at__isnull=True), name="one_live_allocation_per_slot"
            ),
            models.UniqueConstraint(
                fields=["job", "attempt", "part"], condition=Q(lead=True), name="one_lead_per_part"
            ),
            models.CheckConstraint(
                condition=Q(released_at__isnull=True) | Q(released_at__gte=F("held_at")),
                name="allocation_released_after_held",
            ),
        ]
        indexes = [
            models.Index(fields=["node"], name="allocation_live_by_node", condition=Q(released_at__isnull=True)),
            models.Index(fields=["job", "attempt"], name="allocation_by_attempt"),
        ]
