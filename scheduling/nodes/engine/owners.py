"""Whose container a process of this machine is in, by the control group that the kernel keeps it in."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scheduling.nodes.engine.names import ALLOCATION
from scheduling.nodes.health import Reading, owned

#: `docker-<id>.scope` under systemd, `/docker/<id>` under cgroupfs
_CONTAINER = re.compile(r"[0-9a-f]{64}")


def owner_by_cgroup(pid: int, containers: Mapping[str, str], *, proc: Path = Path("/proc")) -> str | None:
    """The allocation of the container, by its id in `containers`; empty: it is in none of these; None: the process is
    gone, or out of sight of this one."""
    try:
        text = (proc / str(pid) / "cgroup").read_text()
    except OSError:
        return None
    return next((containers[name] for name in _CONTAINER.findall(text) if name in containers), "")


def in_containers(
    readings: tuple[Reading, ...] | None, containers: Callable[[], Sequence[Mapping[str, Any]]]
) -> tuple[Reading, ...] | None:
    """The readings with each process's allocation. `containers`: as the engine lists ours; it is asked only if there is
    a process."""
    if not readings or not any(reading.processes for reading in readings):
        return readings
    known = {container["Id"]: container["Labels"][ALLOCATION] for container in containers()}
    return owned(readings, lambda pid: owner_by_cgroup(pid, known))
