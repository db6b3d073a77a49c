"""Who may speak for a node: one-time tokens to join with, and the key that each enrolled node has of its own."""

from django.db import models
from django.db.models import Q


class JoinToken(models.Model):
    """Lets one agent enrol the node `name`, once; `simulated` > 0: that many simulated nodes, name-1 and so on."""

    name = models.SlugField(max_length=60)
    pool = models.SlugField(max_length=40, blank=True)  # empty: chosen by what the machine has
    simulated = models.PositiveIntegerField(default=0)
    sha256 = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(expires_at__gt=models.F("created_at")), name="join_token_expires"),
        ]

    def __str__(self) -> str:
        return f"token for {self.name}"


class Enrolment(models.Model):
    """A node that agents speak for over the network, and which process of which start spoke for it last."""

    node_name = models.SlugField(max_length=60, unique=True)
    pool = models.SlugField(max_length=40, blank=True)
    key_sha256 = models.CharField(max_length=64, unique=True)
    enrolled_at = models.DateTimeField()
    # Counts up when versions of the desired state may begin anew: a new enrolment, a restored database.
    epoch = models.PositiveBigIntegerField(default=1)
    agent = models.CharField(max_length=64, blank=True)
    start = models.PositiveBigIntegerField(default=0)
    sequence = models.PositiveBigIntegerField(default=0)
    heard_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["node_name"]

    def __str__(self) -> str:
        return self.node_name
