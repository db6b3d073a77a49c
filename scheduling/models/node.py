"""The machines: pools of nodes, their GPUs, and the slots that the GPUs are cut into."""

from django.db import models
from django.db.models import F, Q

from scheduling.core.units import GPU_UNITS


class Pool(models.Model):
    """Nodes with the same kind of accelerator. Quota is per team and pool.

    `reference_*`: the node by which CPU and memory are turned into GPUs for the charge; 0 GPUs: the GPUs alone count.
    The row is also the lock under which use in this pool is settled, see `records/usage.py`.
    """

    name = models.SlugField(max_length=40, unique=True)
    reference_gpus = models.PositiveIntegerField(default=0)
    reference_cpu_millis = models.PositiveIntegerField(default=0)
    reference_memory_mib = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return self.name


class NodeState(models.TextChoices):
    READY = "ready"
    CORDONED = "cordoned"
    DRAINING = "draining"
    LOST = "lost"
    FENCED = "fenced"  # lost for so long that what ran there has ended, whatever the machine does
    RETURNED = "returned"  # answers again, and is still ending what it should not run


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
    labels = models.JSONField(default=dict, blank=True)  # name -> value, what jobs may ask for
    path = models.JSONField(default=list, blank=True)  # its domains from the widest to the narrowest: block, rack
    # Desired state: bumped in the transaction that changes what should run here; the agent ignores anything older.
    desired_version = models.PositiveBigIntegerField(default=1)
    seen_at = models.DateTimeField(null=True)  # when the last exchange was answered
    # While it is being emptied: when what cannot move is stopped, too; none: it runs to its own end.
    drain_by = models.DateTimeField(null=True)
    returns_to = models.CharField(max_length=10, blank=True)  # the state before it was lost
    facts = models.JSONField(default=dict, blank=True)  # the whole inventory as it was last told
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
    island = models.PositiveSmallIntegerField(default=0)  # cards of a node with the same number share an NVLink
    layout_version = models.PositiveIntegerField(default=1)
    # Moves in the same transaction as each Allocation, so a whole card and a slice of it can never both be held.
    held_units = models.PositiveIntegerField(default=0)
    retired_at = models.DateTimeField(null=True, blank=True)
    # In quarantine nothing new is placed on it, see gpu_health.py. `severity`: what becomes of what runs there.
    quarantined_at = models.DateTimeField(null=True)
    quarantine_code = models.CharField(max_length=40, blank=True)
    quarantine_reason = models.CharField(max_length=300, blank=True)
    quarantine_severity = models.CharField(max_length=10, blank=True)
    # The boot of the machine in which it does not come back by itself; empty: the next clean check brings it back.
    quarantine_boot_id = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["node_id", "index"]
        constraints = [
            models.CheckConstraint(
                condition=Q(held_units__gte=0) & Q(held_units__lte=GPU_UNITS), name="gpu_holds_no_more_than_itself"
            ),
            models.CheckConstraint(
                condition=Q(quarantined_at__isnull=True, quarantine_reason="")
                | (Q(quarantined_at__isnull=False) & ~Q(quarantine_reason="")),
                name="quarantine_has_a_reason",
            ),
        ]

    def __str__(self) -> str:
        return self.uuid


class GpuEvent(models.Model):
    """An error that a card's driver reported, once each however often it is told, with the job that had the card."""

    gpu = models.ForeignKey(Gpu, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField()
    boot_id = models.CharField(max_length=64, blank=True)
    boot_ms = models.PositiveBigIntegerField()
    xid = models.PositiveIntegerField()
    sentence = models.CharField(max_length=300)
    job = models.ForeignKey("scheduling.Job", null=True, on_delete=models.SET_NULL, related_name="gpu_events")
    attempt = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["gpu", "boot_id", "boot_ms", "xid"], name="each_gpu_event_once"),
        ]

    def __str__(self) -> str:
        return f"Xid {self.xid} of {self.gpu_id}"


class SlotKind(models.TextChoices):
    WHOLE = "whole"
    MIG = "mig"
    SHARED = "shared"


class Slot(models.Model):
    """A part of a GPU that one job can hold. Never deleted, only retired with the layout it belongs to.

    `held_by`: the job whose live allocation it is. `claimed_for`: the job for which it is being freed, or kept once it
    is free, and `claimed_over` the job that held it when that was decided. The check makes it impossible that anybody
    else gets it in between, whatever the code does.
    """

    gpu = models.ForeignKey(Gpu, on_delete=models.PROTECT, related_name="slots")
    kind = models.CharField(max_length=10, choices=SlotKind.choices, default=SlotKind.WHOLE)
    device_uuid = models.CharField(max_length=80)  # the GPU's own, or the MIG instance's
    units = models.PositiveIntegerField(default=GPU_UNITS)
    layout_version = models.PositiveIntegerField(default=1)
    retired_at = models.DateTimeField(null=True, blank=True)
    held_by = models.ForeignKey("scheduling.Job", null=True, on_delete=models.PROTECT, related_name="+")
    claimed_for = models.ForeignKey("scheduling.Job", null=True, on_delete=models.PROTECT, related_name="+")
    claimed_over = models.ForeignKey("scheduling.Job", null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["gpu_id", "id"]
        constraints = [
            models.CheckConstraint(condition=Q(units__gt=0) & Q(units__lte=GPU_UNITS), name="slot_units_in_a_gpu"),
            models.CheckConstraint(
                condition=Q(claimed_for__isnull=True)
                | Q(held_by__isnull=True)
                | Q(held_by=F("claimed_for"))
                | (Q(claimed_over__isnull=False) & Q(held_by=F("claimed_over"))),
                name="a_claim_bars_everybody_else",
            ),
        ]
