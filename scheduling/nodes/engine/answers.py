"""Can the Docker driver be used on this machine? Asked once at start, before the Docker SDK (20 MB) is imported."""

import http.client
import json
import os
import shutil
import socket
from typing import Any

DEFAULT_SOCKET = "unix:///var/run/docker.sock"


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def engine_url(base_url: str | None) -> str:
    """Where the engine listens: as given, else DOCKER_HOST, else Docker's own socket."""
    return base_url or os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET


def engine_answers(base_url: str | None, *, timeout: float = 3.0) -> str | None:
    """None when the Docker driver can work here, else the sentence that says why it cannot."""
    url = engine_url(base_url)
    if not url.startswith("unix://"):
        return (
            f"The Docker Engine at {url} is not on this machine's own socket; Berth mounts folders into containers "
            "and dials them directly, so set BERTH_DOCKER_HOST to a unix:// address."
        )
    try:
        info = ask_engine(url.removeprefix("unix://"), "/info", timeout=timeout)
    except PermissionError:
        return f"The Docker Engine's socket {url} may not be opened by this user; start Berth as root to use Docker."
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"No Docker Engine answers at {url} ({error})."
    if os.geteuid() != 0:
        return (
            "A Docker Engine answers, but Berth needs root to put a firewall between containers and this machine "
            "and to give home folders their owners."
        )
    if shutil.which("iptables", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
        return (
            "A Docker Engine answers, but iptables, which keeps containers away from this machine, is not installed; "
            "as root: apt-get install iptables."
        )
    if any("rootless" in option for option in info.get("SecurityOptions") or ()):
        return "The Docker Engine is rootless: its containers cannot be reached from here. Start the system's engine."
    return None


def ask_engine(path: str, target: str, *, timeout: float = 3.0) -> dict[str, Any]:
    """One GET at the socket `path`. Raises OSError, HTTPException, or ValueError for an answer that is none."""
    connection = _SocketConnection(path, timeout)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        body = json.loads(response.read())
    finally:
        connection.close()
    if response.status != 200 or not isinstance(body, dict):
        raise ValueError(f"it answered {response.status}")
    return body
