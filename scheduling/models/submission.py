"""What was asked for once, so that it is not done twice."""

from django.conf import settings  # AUTH_USER_MODEL only
from django.db import models


class Submission(models.Model):
    """A request with an Idempotency-Key, and the jobs that it made. `key` and `body`: SHA-256 in hex."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=64)
    body = models.CharField(max_length=64)
    jobs = models.JSONField(default=list)  # ids, in the order in which they were asked for
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["owner", "key"], name="one_submission_per_key")]
        indexes = [models.Index(fields=["created_at"], name="submission_by_age")]
