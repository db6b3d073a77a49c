"""Since when does the engine run? It tells nobody, but its process does."""

import os
import socket
import struct
from datetime import datetime, timedelta
from pathlib import Path

#: where a dockerd that got its socket from systemd, and so cannot be recognised by it, says who it is
_PID_FILE = Path("/run/docker.pid")
_PATIENCE_S = 3.0


def engine_started_at(url: str, *, now: datetime) -> datetime | None:
    """When the engine behind a unix:// address was started; None where that cannot be known."""
    try:
        pid = _listener(url.removeprefix("unix://"))
        if not _is_engine(pid):
            pid = int(_PID_FILE.read_text())
            if not _is_engine(pid):
                return None
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])  # since the boot
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return now - timedelta(seconds=uptime - ticks / os.sysconf("SC_CLK_TCK"))


def _listener(path: str) -> int:
    """The process that made the socket: dockerd itself, or systemd on its behalf."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE_S)
        connection.connect(path)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def _is_engine(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd"
