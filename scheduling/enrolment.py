"""Which machines may speak for which nodes: one-time tokens, a key for each node, and one agent at a time."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F

from portal.kernel.errors import BerthError, Conflict, Rejected
from scheduling.models import Enrolment, JoinToken, Node
from scheduling.nodes.exchange import Report
from scheduling.wiring import wired

TOKEN_PREFIX, KEY_PREFIX = "join_", "node_"
TOKEN_LIFETIME = timedelta(hours=1)
MOST_SIMULATED = 2000
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,50}[a-z0-9])?")
_POOL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


class BadNodeName(Rejected):
    """'{name}' cannot be the name of a node or a pool; use up to 40 small letters, digits and hyphens."""


class NameTaken(Conflict):
    """'{name}' is a node of the portal's own process, so no other machine can have that name; choose another."""


class BadToken(BerthError):
    """This token is unknown, used or expired; make a new one with `manage.py node_token NAME`."""

    status = 403


class WrongCount(Rejected):
    """This token is for {wanted}, but the agent wants to enrol {asked}; start it with {remedy}."""


class OtherNode(BerthError):
    """This key speaks for the node {mine} and for no other, so nothing about {other} was taken."""

    status = 403


class SecondAgent(Conflict):
    """Another agent already speaks for the node {node}; stop one of the two. If the other is gone for good, this one is
    let in {seconds} s after its last report."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A key, shown this once to the agent that joined."""

    node: str
    key: str


def _digest(secret: str) -> str:
    """SHA-256 in hex. Tokens and keys are 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create_join_token(
    *, name: str, pool: str, simulated: int, now: datetime, lifetime: timedelta = TOKEN_LIFETIME
) -> str:
    """A token with which one agent enrols `name`; an earlier key of that node ends when the token is used."""
    if not _NAME.fullmatch(name):
        raise BadNodeName(name=name)
    if pool and not _POOL.fullmatch(pool):
        raise BadNodeName(name=pool)
    for node in _names(name, simulated):
        if Node.objects.filter(name=node).exists() and not Enrolment.objects.filter(node_name=node).exists():
            raise NameTaken(name=node)
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    JoinToken.objects.create(
        name=name,
        pool=pool,
        simulated=simulated,
        sha256=_digest(token),
        created_at=now,
        expires_at=now + lifetime,
    )
    return token


def _names(name: str, simulated: int) -> list[str]:
    return [f"{name}-{number}" for number in range(1, simulated + 1)] if simulated else [name]


@transaction.atomic
def join(*, token: str, simulated: int, now: datetime) -> list[Joined]:
    """Use a token up: a fresh key for each of its nodes. Raises BadToken, WrongCount."""
    row = JoinToken.objects.filter(sha256=_digest(token), used_at__isnull=True, expires_at__gt=now).first()
    if row is None or not hmac.compare_digest(row.sha256, _digest(token)):
        raise BadToken()
    if row.simulated != simulated:
        raise WrongCount(
            wanted=f"{row.simulated} simulated nodes" if row.simulated else "one real machine",
            asked=f"{simulated} simulated nodes" if simulated else "one real machine",
            remedy=f"--simulated {row.simulated}" if row.simulated else "no --simulated",
        )
    if not JoinToken.objects.filter(pk=row.pk, used_at__isnull=True).update(used_at=now):
        raise BadToken()  # somebody was quicker
    return [_enrol(name, row.pool, now) for name in _names(row.name, row.simulated)]


def _enrol(name: str, pool: str, now: datetime) -> Joined:
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    before = Enrolment.objects.filter(node_name=name).first()
    facts = {
        "pool": pool or (before.pool if before else ""),
        "key_sha256": _digest(key),
        "enrolled_at": now,
        "epoch": _next_epoch(before, now),
        "agent": "",
        "start": 0,
        "sequence": 0,
        "heard_at": None,
    }
    Enrolment.objects.update_or_create(node_name=name, defaults=facts)
    return Joined(node=name, key=key)


def _next_epoch(before: Enrolment | None, now: datetime) -> int:
    """Above every epoch that was told, also by a database of which only an older copy is left: hence the seconds."""
    return max(before.epoch + 1 if before else 1, int(now.timestamp()))


def begin_epoch(*, now: datetime) -> int:
    """After the database was restored from a backup: agents take its desired states again. Answers for how many."""
    count = 0
    for row in Enrolment.objects.all():
        count += Enrolment.objects.filter(pk=row.pk).update(epoch=_next_epoch(row, now))
    Node.objects.update(desired_version=F("desired_version") + 1)
    return count


def revoke_key(*, name: str) -> bool:
    """The node's key counts no more; a new token lets it join again. False: no such node is enrolled."""
    row = Enrolment.objects.filter(node_name=name).first()
    if row is None:
        return False
    row.key_sha256 = _digest(secrets.token_urlsafe(32))
    row.save(update_fields=["key_sha256"])
    wired().cut_broker(name)
    return True


def enrolment_of(key: str) -> Enrolment | None:
    """Whose key it is."""
    digest = _digest(key)
    row = Enrolment.objects.filter(key_sha256=digest).first()
    return row if row is not None and hmac.compare_digest(row.key_sha256, digest) else None


def node_of_key(key: str) -> str | None:
    """The name of the node that this key speaks for."""
    row = enrolment_of(key)
    return row.node_name if row else None


def admit(enrolment: Enrolment, report: Report, *, now: datetime) -> bool:
    """Is this report news of the one agent that speaks for the node? False: it is a repeated or late one, and says
    nothing that later ones have not said. Raises OtherNode, SecondAgent.

    An agent follows another when it is a later start with the same files, or once the other has been silent for so long
    that its containers have ended.
    """
    if report.node != enrolment.node_name:
        raise OtherNode(mine=enrolment.node_name, other=report.node[:60])
    if report.agent == enrolment.agent:
        if report.sequence <= enrolment.sequence:
            return False
    elif enrolment.agent and report.start <= enrolment.start:
        silent_s = (now - enrolment.heard_at).total_seconds() if enrolment.heard_at else wired().fence_after_s
        if silent_s < wired().fence_after_s:
            raise SecondAgent(node=enrolment.node_name, seconds=wired().fence_after_s)
    mine = Enrolment.objects.filter(pk=enrolment.pk, agent=enrolment.agent, sequence=enrolment.sequence)
    facts = {"agent": report.agent, "start": report.start, "sequence": report.sequence, "heard_at": now}
    return bool(mine.update(**facts))
