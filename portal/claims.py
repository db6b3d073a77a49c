"""What must be ours alone before anything starts: the data folder and the ports. Each refusal is one sentence."""

import contextlib
import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

from portal.kernel import clock

LOCK_PATIENCE_S = 3.0
BACKLOG = 2048  # as uvicorn has it


class NotOurs(Exception):
    """Something else has what the portal needs; the message says what, and what to do."""


def claim_folder(data: Path) -> IO[str]:
    """Make the data folder and lock it for this process; the lock goes with the returned file, or with the process.

    0711: workspaces run under other accounts and must reach their volumes by name, but list nothing here.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        data.chmod(0o711)
        handle = open(data / "portal.lock", "a+", opener=_private)  # noqa: SIM115 - stays open, it is the lock
    except OSError as error:
        raise NotOurs(
            f"Cannot write to the data folder {data} ({error.strerror}); change its owner or set BERTH_DATA to another."
        ) from error
    if not _lock(handle):
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        handle.close()
        raise NotOurs(
            f"Another portal (process {holder}) is running on {data}; stop it or set BERTH_DATA to another folder."
        )
    handle.truncate(0)
    handle.write(f"{os.getpid()}\n")
    handle.flush()
    return handle


def claim_port(host: str, port: int, *, setting: str) -> socket.socket:
    """Listen on a port from now on, so that nobody takes it while the portal gets ready; who comes early waits.

    Bound alone it would not be ours: with SO_REUSEADDR another may bind it too as long as nobody listens.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            whom = _by_whom(port)
            raise NotOurs(f"Port {port} is taken{whom}; stop that or set {setting} to a free port.") from error
        if error.errno == errno.EACCES:
            raise NotOurs(f"Port {port} needs root; set {setting} to a port from 1024 on.") from error
        raise NotOurs(f"Cannot listen on {host}:{port} ({error.strerror}); check BERTH_HOST and {setting}.") from error
    return sock


def _lock(handle: IO[str]) -> bool:
    """False when another process holds it, and is not one that is just about to end."""
    began = clock.monotonic()
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if clock.monotonic() - began > LOCK_PATIENCE_S:
                return False
            time.sleep(0.1)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _by_whom(port: int) -> str:
    """' by "python manage.py up" (process 123)', or nothing where this account may not see it."""
    inodes = {
        fields[9]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for fields in _rows(Path(table))
        if len(fields) > 9 and fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port
    }
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                link = os.readlink(descriptor)
                if link.startswith("socket:[") and link[8:-1] in inodes:
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    return f' by "{command[:80]}" (process {process.name})'
    return ""


def _rows(table: Path) -> list[list[str]]:
    with contextlib.suppress(OSError):
        return [line.split() for line in table.read_text().splitlines()[1:]]
    return []
