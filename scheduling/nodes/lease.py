"""For how long this node may go on by itself, and what it has already been told: kept on the agent's disk.

The portal gives a lost node's GPUs away after the lease, the containers' grace and ten seconds more. So the agent
counts from *sending* the report whose answer renewed the lease, never from the answer's coming, and on CLOCK_BOOTTIME,
which nobody sets and which goes on while the machine sleeps. After a reboot the lease is over: that clock began anew.
"""

import json
import os
from collections.abc import Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from portal.kernel import clock

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: between SIGTERM and SIGKILL for containers whose lease is over; the portal waits as long before it gives slots away
STOP_GRACE_S = 20


class Broken(Exception):
    """The agent's own file cannot be read; the message says which, and what to do."""


def boot_id() -> str:
    return BOOT_ID.read_text().strip()


@dataclass(frozen=True, slots=True)
class Kept:
    """The file. until: CLOCK_BOOTTIME in seconds; start: how many times an agent began with this file. ended: the
    allocations that it ended because the lease was over, and that the portal still wants."""

    boot: str = ""
    until: float = 0.0
    epoch: int = 0
    version: int = 0
    start: int = 0
    ended: tuple[str, ...] = ()


class Lease:
    """One node's lease. A new object is a new start of the agent, and counts as one."""

    def __init__(self, path: Path, *, boot: str) -> None:
        self._path = path
        self._boot = boot
        kept = _read(path)
        self._kept = replace(kept, start=kept.start + 1)
        self._write(firmly=True)

    @property
    def start(self) -> int:
        return self._kept.start

    @property
    def told(self) -> tuple[int, int]:
        """(epoch, version) of the newest desired state that any agent of this file has taken."""
        return self._kept.epoch, self._kept.version

    @property
    def ended(self) -> frozenset[str]:
        return frozenset(self._kept.ended)

    def note_ended(self, allocations: Set[str]) -> None:
        """All that was ended because the lease was over. Written before it is done: an agent that is killed in between
        must not take its own doing for that of a stranger, which would be the job's end."""
        if allocations != self.ended:
            self._kept = replace(self._kept, ended=tuple(sorted(allocations)))
            self._write(firmly=False)

    def is_over(self) -> bool:
        return self._kept.boot != self._boot or clock.boottime() >= self._kept.until

    def renew(self, *, sent_at: float, lease_s: float, told: tuple[int, int]) -> None:
        """A report sent at `sent_at` (CLOCK_BOOTTIME) was answered. lease_s 0: good until the machine restarts."""
        until = sent_at + lease_s if lease_s else float(10**12)
        before = self._kept
        epoch, version = max(told, self.told)
        self._kept = replace(before, boot=self._boot, until=until, epoch=epoch, version=version)
        self._write(firmly=(epoch, version) != (before.epoch, before.version))

    def _write(self, *, firmly: bool) -> None:
        """Whole or not at all. Forced to the disk only where it must survive a power cut: the lease does not."""
        draft = self._path.with_suffix(".new")
        with open(draft, "w", opener=_private) as handle:
            json.dump(asdict(self._kept), handle)
            if firmly:
                handle.flush()
                os.fsync(handle.fileno())
        draft.replace(self._path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _read(path: Path) -> Kept:
    try:
        facts = json.loads(path.read_text())
        return Kept(
            boot=str(facts["boot"]),
            until=float(facts["until"]),
            epoch=int(facts["epoch"]),
            version=int(facts["version"]),
            start=int(facts["start"]),
            ended=tuple(str(allocation) for allocation in facts.get("ended", ())),
        )
    except FileNotFoundError:
        return Kept()
    except (ValueError, KeyError, TypeError) as error:
        raise Broken(f"{path} cannot be read ({error}). Join the portal again with a new token.") from error
