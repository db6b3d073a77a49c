"""Is a GPU fit to be handed to somebody? The facts that a node tells of each, and the rules that judge them. Pure.

Each rule answers with a finding in words. The portal enacts findings (`scheduling/gpu_health.py`): a card with one that
holds it back is quarantined, and comes back with the first check that finds none.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol, runtime_checkable

from scheduling.nodes.xids import XidClass, class_of, words_for

#: an idle H100 shows about 480 MiB of its memory used; what is above this is held by something
BASELINE_MIB = 1024


@dataclass(frozen=True, slots=True)
class Xid:
    """An error that the driver reported. `boot_ms`: when, in ms since the machine started, which together with the boot
    id and the card makes it one event, however often it is told."""

    number: int
    boot_ms: int


@dataclass(frozen=True, slots=True)
class Process:
    """A process with memory on a card. `allocation`: whose container it is in; empty: in none; None: not known."""

    pid: int
    memory_mib: int | None = None
    name: str = ""
    allocation: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one card says of its health right now. None and "": it does not say. `answers`: False if it is there no
    more. `recovery`: what the driver wants done: "none", "reset", "restart" or "drain"."""

    gpu_uuid: str
    answers: bool = True
    xids: tuple[Xid, ...] = ()
    ecc_uncorrected: int | None = None  # since the driver took the card
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    recovery: str = ""
    memory_used_mib: int | None = None
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """What a node tells of one card. `seen`: False while NVML as a whole does not answer, so that nobody knows.
    `strangers`: processes on it that belong to nobody who holds it; `leaked_mib`: memory that is used although nobody
    holds the card and no process is on it, 0 if none is. `boot_ms`: when it was looked at, on the clock of `Xid`."""

    gpu_uuid: str
    boot_ms: int = 0
    seen: bool = True
    answers: bool = True
    xids: tuple[Xid, ...] = ()
    ecc_uncorrected: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    recovery: str = ""
    strangers: tuple[Process, ...] = ()
    leaked_mib: int = 0


@runtime_checkable
class WatchesGpus(Protocol):
    """What a driver can do beyond its six verbs, if it has GPUs."""

    def gpu_health(self) -> tuple[Reading, ...] | None:
        """One reading of every card that answers. None: nothing can be said about any (the driver is broken)."""


def owned(readings: tuple[Reading, ...], owner_of: Callable[[int], str | None]) -> tuple[Reading, ...]:
    """The readings with each process's allocation filled in. `owner_of`: by pid, as `Process.allocation` says."""
    return tuple(
        replace(reading, processes=tuple(replace(p, allocation=owner_of(p.pid)) for p in reading.processes))
        for reading in readings
    )


class Severity(StrEnum):
    """What a finding asks for; the last is the worst."""

    NOTE = "note"  # say it to whoever runs there
    HOLD = "hold"  # place nothing new on the card; what runs may go on
    SICK = "sick"  # stop what runs there, and place nothing new


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `lasting`: it does not show again, so the card stays in quarantine until the machine was
    restarted or a person says that it was put right; anything else is over as soon as it is not seen any more."""

    code: str
    severity: Severity
    sentence: str
    lasting: bool = False


def findings_of(health: Health) -> Iterator[Finding]:
    """Everything that is wrong with a card but its Xids, which are judged once each by `finding_of_xid`."""
    if not health.seen:
        yield Finding(
            "unseen", Severity.HOLD, "NVIDIA's driver does not answer, so nobody can see whether it is clean."
        )
        return
    if not health.answers:
        yield Finding("lost", Severity.SICK, "It does not answer any more; the machine has to be restarted.")
        return
    if health.remap_failed:
        yield Finding(
            "remap-failed", Severity.SICK, "A broken row of its memory cannot be replaced; have it exchanged."
        )
    yield from _of_recovery(health.recovery)
    if health.remap_pending:
        yield Finding(
            "remap-pending", Severity.HOLD, "A row of its memory is to be replaced; reset it once it is free."
        )
    if health.ecc_uncorrected:
        errors = f"{health.ecc_uncorrected} uncorrectable memory error{'s' if health.ecc_uncorrected != 1 else ''}"
        yield Finding("ecc", Severity.HOLD, f"It has had {errors} since its last reset; reset it once it is free.")
    if health.strangers:
        first = health.strangers[0]
        more = f" and {len(health.strangers) - 1} more" if len(health.strangers) > 1 else ""
        named = f"{first.pid} ({first.name[:40]})" if first.name else str(first.pid)
        yield Finding(
            "stranger", Severity.HOLD, f"Process {named}{more} uses it although nobody was given it for that."
        )
    if health.leaked_mib:
        text = f"{health.leaked_mib:,} MiB of its memory are used although no process holds it; reset it."
        yield Finding("memory", Severity.HOLD, text)


def _of_recovery(recovery: str) -> Iterator[Finding]:
    if recovery == "reset":
        yield Finding("recovery-reset", Severity.SICK, "NVIDIA's driver wants it to be reset.")
    elif recovery == "restart":
        yield Finding("recovery-restart", Severity.SICK, "NVIDIA's driver wants the machine to be restarted.")
    elif recovery == "drain":
        yield Finding("recovery-drain", Severity.HOLD, "NVIDIA's driver wants it to be reset once it is free.")


_OF_CLASS = {
    XidClass.NEWS: (Severity.NOTE, "Nothing follows from it alone."),
    XidClass.PROGRAM: (Severity.NOTE, "The program, not the GPU, is at fault."),
    XidClass.CONTAINED: (Severity.HOLD, "Reset it once it is free, then return it."),
    XidClass.RESET: (Severity.SICK, "Reset it, then return it; or restart the machine."),
    XidClass.RESTART: (Severity.SICK, "Restart the machine."),
}


def finding_of_xid(number: int) -> Finding:
    """What one reported Xid means."""
    kind = class_of(number)
    severity, remedy = _OF_CLASS[kind]
    sentence = f"It reported Xid {number}, {words_for(number)}. {remedy}"
    return Finding(f"xid-{number}", severity, sentence, lasting=severity is not Severity.NOTE)


def worst(findings: list[Finding]) -> Finding | None:
    """The one to act on; of equals the first."""
    order = list(Severity)
    return max(findings, key=lambda finding: order.index(finding.severity), default=None)
