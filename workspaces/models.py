"""What people open and run: images to choose from, home volumes that survive, and workspaces, each a face on a Job."""

import secrets

from django.conf import settings  # AUTH_USER_MODEL only
from django.db import models
from django.db.models import Q

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # a host name label; no letter that reads like a digit


def new_workspace_id() -> str:
    """Ten random letters, 50 bits: part of a host name, so lower case only."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


class Image(models.Model):
    """An entry of the catalogue: what may be launched."""

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=80)
    reference = models.CharField(max_length=300)  # e.g. quay.io/jupyter/scipy-notebook:2025-…
    summary = models.CharField(max_length=200, blank=True)
    order = models.PositiveSmallIntegerField(default=100)
    enabled = models.BooleanField(default=True)
    # Which drivers can run it: a container image needs an engine, the machine's own JupyterLab does not.
    drivers = models.JSONField(default=list)

    class Meta:
        ordering = ["order", "slug"]

    def __str__(self) -> str:
        return self.slug


class Volume(models.Model):
    """A person's home in a team, kept on the node's disk by name. Deleted by nothing but an explicit request."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    team = models.ForeignKey("tenants.Team", on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=120, unique=True)  # below the node's volume root
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "team"], name="one_home_per_person_and_team")]


class Workspace(models.Model):
    """A JupyterLab that somebody can open. Its status is derived from its job, never stored."""

    id = models.CharField(primary_key=True, max_length=16, default=new_workspace_id)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="workspaces")
    team = models.ForeignKey("tenants.Team", on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=60)
    image = models.ForeignKey(Image, on_delete=models.PROTECT, related_name="+")
    volume = models.ForeignKey(Volume, on_delete=models.PROTECT, related_name="workspaces")
    gpus = models.PositiveIntegerField(default=0)
    cpu_millis = models.PositiveIntegerField()
    memory_mib = models.PositiveIntegerField()
    # The latest run. Starting a stopped workspace submits a new job; the old ones keep their history.
    job = models.ForeignKey("scheduling.Job", null=True, on_delete=models.PROTECT, related_name="workspaces")
    # What the browser sent with the form: the same click twice finds the same workspace.
    launch_key = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "launch_key"],
                condition=~Q(launch_key="") & Q(deleted_at__isnull=True),
                name="one_workspace_per_click",
            ),
            models.UniqueConstraint(
                fields=["owner", "name"], condition=Q(deleted_at__isnull=True), name="one_workspace_of_a_name"
            ),
        ]

    def __str__(self) -> str:
        return f"w-{self.pk}"


class Ticket(models.Model):
    """Lets one browser into one workspace once, within 30 s. Only the hash is stored."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    session_key = models.CharField(max_length=40)  # the portal session it was minted in
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)


class GatewayGrant(models.Model):
    """A browser that redeemed a ticket: the gateway's cookie (hashed), good while the portal session lives."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="grants")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    session_key = models.CharField(max_length=40)
    created_at = models.DateTimeField()
