"""What the gateway is called from outside: one host name per workspace, and one plain host for programs."""

import re
from dataclasses import dataclass

#: a host label and a path segment; Workspace ids are ten such letters
WORKSPACE_ID = re.compile(rb"[a-z0-9]{1,16}\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origins:
    """Public names. `port` is the one that browsers see, which behind a TLS proxy is not the one we listen on."""

    portal: str  # e.g. "http://localhost:8000", no slash at the end
    domain: str  # e.g. "localhost": workspaces live at w-<id>.<domain>
    port: int
    scheme: str = "http"

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    @property
    def _tail(self) -> str:
        return self.domain if _DEFAULT_PORTS.get(self.scheme) == self.port else f"{self.domain}:{self.port}"

    @property
    def gateway(self) -> str:
        """Origin of the plain host, where programs enter below /w/<id>/."""
        return f"{self.scheme}://{self._tail}"

    def of(self, workspace: str) -> str:
        """Origin of one workspace, the only one whose scripts may act in it."""
        return f"{self.scheme}://w-{workspace}.{self._tail}"

    def portal_page(self, workspace: str) -> str:
        """Where a person who may not enter right now is sent: the page that mints tickets."""
        return f"{self.portal}/w/{workspace}"

    def workspace_in(self, host: bytes) -> str | None:
        """The workspace that a Host header names, or None for the plain host. The port must be ours, if one is given
        or needed: a browser always sends it as it is in the address."""
        host = host.lower()
        tail = b"." + self._tail.encode()
        if not host.startswith(b"w-") or not host.endswith(tail):
            return None
        label = host[2 : -len(tail)]
        return label.decode() if WORKSPACE_ID.match(label) else None
