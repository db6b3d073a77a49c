"""The same request twice makes the same jobs: what an Idempotency-Key promises."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from portal.kernel.errors import Conflict
from scheduling.models import Job, Submission
from tenants.models import User

#: a key is known for so long
KEPT = timedelta(days=7)


class KeyUsedOtherwise(Conflict):
    """This Idempotency-Key came with another request before; use a new key for each new request."""

    field = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Once:
    """One keyed request. key, body: SHA-256 in hex of the key and of what was asked."""

    owner: User
    key: str
    body: str

    @classmethod
    def of(cls, owner: User, key: str, body: Any) -> "Once | None":
        """None without a key. body: plain JSON data."""
        if not key:
            return None
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        return cls(owner, _digest(key), _digest(text))

    def earlier(self) -> list[Job] | None:
        """The jobs that it made before. Raises KeyUsedOtherwise."""
        row = Submission.objects.filter(owner=self.owner, key=self.key).first()
        if row is None:
            return None
        if row.body != self.body:
            raise KeyUsedOtherwise()
        jobs = Job.objects.select_related("team", "owner").in_bulk(row.jobs)
        return [jobs[job] for job in row.jobs if job in jobs]

    def remember(self, jobs: list[Job], *, now: datetime) -> None:
        """In the transaction that makes them. IntegrityError: the same request was faster."""
        Submission.objects.filter(created_at__lt=now - KEPT).delete()
        Submission.objects.create(
            owner=self.owner, key=self.key, body=self.body, jobs=[job.pk for job in jobs], created_at=now
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
