"""The agent's folder: to which portal it belongs, the key of each of its nodes, and where their leases are kept."""

import fcntl
import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from scheduling.nodes.exchange import JOIN_PATH
from scheduling.nodes.portal_client import NotAnswered, PortalClient


class NotAMember(Exception):
    """This folder is no agent's, or another agent's; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One node that this agent speaks for, with its key."""

    node: str
    key: str


@dataclass(frozen=True, slots=True)
class Membership:
    url: str
    ca: str  # the file with the portal's certificates, empty: the system's
    seats: tuple[Seat, ...]
    simulated: bool = False


class StateFolder:
    """Locked from `claim` on until the process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def claim(self) -> None:
        """Make the folder and keep every other agent out of it. Raises NotAMember.

        0711 as the portal's own: workspaces of the process driver must reach their volumes by name, and list nothing.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o711)
            handle = open(self.path / "agent.lock", "a+", opener=_private)  # noqa: SIM115 - stays open, it is the lock
        except OSError as error:
            raise NotAMember(f"Cannot write to {self.path} ({error.strerror}); choose another --state.") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            other = handle.read().strip() or "unknown"
            handle.close()
            raise NotAMember(f"Another agent (process {other}) runs on {self.path}; stop it first.") from None
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        self._lock = handle

    def lease_file(self, node: str) -> Path:
        folder = self.path / "nodes"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder / f"{node}.json"

    def site(self) -> str:
        """A random name that tells this agent's containers from those of others on the same engine."""
        path = self.path / "site_id"
        if not path.exists():
            _write(path, uuid.uuid4().hex[:12])
        return path.read_text().strip()

    def membership(self) -> Membership:
        """Raises NotAMember."""
        path = self.path / "membership.json"
        try:
            facts = json.loads(path.read_text())
            seats = tuple(Seat(node=str(seat["node"]), key=str(seat["key"])) for seat in facts["seats"])
            return Membership(url=str(facts["url"]), ca=str(facts["ca"]), seats=seats, simulated=facts["simulated"])
        except FileNotFoundError:
            raise NotAMember(
                f"{self.path} belongs to no portal yet. Make a token there with `manage.py node_token NAME`, then: "
                "berth-agent --join URL TOKEN"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise NotAMember(f"{path} cannot be read ({error}); join the portal again with a new token.") from error

    def join(self, url: str, token: str, *, ca: Path | None, simulated: int) -> Membership:
        """Trade a token for keys and keep them. Raises NotAnswered, BadAddress."""
        client = PortalClient(url, ca_file=ca)
        answer = client.post(JOIN_PATH, {"token": token, "simulated": simulated})
        client.close()
        membership = Membership(
            url=client.url, ca=str(ca or ""), seats=tuple(_seats(answer)), simulated=bool(simulated)
        )
        _write(self.path / "membership.json", json.dumps(asdict(membership)))
        return membership


def _seats(answer: Any) -> list[Seat]:
    try:
        seats = [Seat(node=str(one["node"]), key=str(one["key"])) for one in answer["nodes"]]
    except (KeyError, TypeError) as error:
        raise NotAnswered("The portal's answer to the token cannot be read.") from error
    if not seats or not all(seat.node.replace("-", "").isalnum() for seat in seats):  # it becomes a file's name
        raise NotAnswered("The portal's answer to the token names no node that can be.")
    return seats


def _write(path: Path, text: str) -> None:
    """Whole or not at all, on the disk for good, and readable by nobody else from its first byte."""
    draft = path.with_name(f".{path.name}.new")
    with open(draft, "w", opener=_private) as handle:
        os.fchmod(handle.fileno(), 0o600)
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    draft.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
