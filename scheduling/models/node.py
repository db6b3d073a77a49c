"""The machines: pools of nodes, their GPUs, and the slots that the GPUs are cut into."""

from django.db import models
from django.db.models import Q

from scheduling.core.units import GPU_UNITS


class Pool(models.Model):
    """Nodes with the same kind of accelerator. Quota is per team and pool."""

    name = models.SlugField(max_length=40, unique=True)

    def __str__(self) -> str:
        return self.name


class NodeState(models.TextChoices):
    READY = "ready"
    CORDONED = "cordoned"
    DRAINING = "draining"
    LOST = "lost"
    FENCED = "fenced"


class Node(models.Model):
    """One GPU server, as its agent describes it."""

    name = models.SlugField(max_length=60, unique=True)
    pool = models.ForeignKey(Pool, on_delete=models.PROTECT, related_name="nodes")
    state = models.CharField(max_length=10, choices=NodeState.choices, default=NodeState.READY)
    driver = models.CharField(max_length=20)
    cpu_millis = models.PositiveIntegerField()
    memory_mib = models.PositiveIntegerField()
    boot_id = models.CharField(max_length=64, blank=True)
    notes = models.JSONField(default=list, blank=True)  # sentences about what it cannot do
    images = models.JSONField(default=list, blank=True)  # image references already there
    # Desired state: bumped in the transaction that changes what should run here; the agent ignores anything older.
    desired_version = models.PositiveBigIntegerField(default=1)
    seen_at = models.DateTimeField(null=True)  # when the last exchange was answered
    trouble = models.CharField(max_length=300, blank=True)  # what the agent cannot do right now, e.g. engine away

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Gpu(models.Model):
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="gpus")
    uuid = models.CharField(max_length=80, unique=True)
    index = models.PositiveSmallIntegerField()
    model = models.CharField(max_length=80)
    memory_mib = models.PositiveIntegerField(null=True)  # null: the card does not say
    simulated = models.BooleanField(default=False)
    layout_version = models.PositiveIntegerField(default=1)
    # Moves in the same transaction as each Allocation, so a whole card and a slice of it can never both be held.
    held_units = models.PositiveIntegerField(default=0)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["node_id", "index"]
        constraints = [
            models.CheckConstraint(
                condition=Q(held_units__gte=0) & Q(held_units__lte=GPU_UNITS), name="gpu_holds_no_more_than_itself"
            ),
        ]

    def __str__(self) -> str:
        return self.uuid


class SlotKind(models.TextChoices):
    WHOLE = "whole"
    MIG = "mig"
    SHARED = "shared"


class Slot(models.Model):
    """A part of a GPU that one job can hold. Never deleted, only retired with the layout it belongs to."""

    gpu = models.ForeignKey(Gpu, on_delete=models.PROTECT, related_name="slots")
    kind = models.CharField(max_length=10, choices=SlotKind.choices, default=SlotKind.WHOLE)
    device_uuid = models.CharField(max_length=80)  # the GPU's own, or the MIG instance's
    units = models.PositiveIntegerField(default=GPU_UNITS)
    layout_version = models.PositiveIntegerField(default=1)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["gpu_id", "id"]
        constraints = [
            models.CheckConstraint(condition=Q(units__gt=0) & Q(units__lte=GPU_UNITS), name="slot_units_in_a_gpu"),
        ]
