"""The agent's way to the portal: JSON over one kept-alive HTTPS connection, whose certificate is always checked.

Plain http is for a portal on the same machine only: a node's key would otherwise cross the network in the open. The
standard library's client serves here because an agent makes one small request at a time.
"""

import http.client
import ipaddress
import json
import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: for each wait on the network; well within a lease
PATIENCE_S = 10.0
MOST_BYTES = 64 * 1024 * 1024


class NotAnswered(ConnectionError):
    """The portal cannot be reached or is in trouble; try again."""


class NotLetIn(NotAnswered):
    """The portal answered, and refuses; `status` and `code` are its own. Trying again helps only once a person acts."""

    def __init__(self, sentence: str, *, status: int, code: str) -> None:
        self.status, self.code = status, code
        super().__init__(sentence)


class BadAddress(ValueError):
    """The address of the portal, or its CA file, cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect. netloc: host and perhaps port as they were written; path without a slash at its end."""

    host: str
    port: int
    tls: bool
    netloc: str
    path: str


def read_address(url: str) -> Address:
    """Raises BadAddress unless it can be trusted with a key: https, or http on this machine."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadAddress(f"{url} has a port that is none.") from error
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or parts.username:
        raise BadAddress(f"{url} is not an address of a portal; it must look like https://portal.example.org.")
    tls = parts.scheme == "https"
    if not tls and not _is_loopback(host):
        raise BadAddress(
            f"{url} is not encrypted, so the node's key could be read on the way; use https. "
            "Plain http is for a portal on this machine only."
        )
    return Address(host, port or (443 if tls else 80), tls, parts.netloc, parts.path.rstrip("/"))


class PortalClient:
    """Not for several threads at once: an agent's rounds follow each other."""

    def __init__(self, url: str, *, ca_file: Path | None = None) -> None:
        """Raises BadAddress."""
        self._address = read_address(url)
        self.url = url.rstrip("/")
        self._tls = tls_context(ca_file) if self._address.tls else None
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: Any, *, key: str = "") -> Any:
        """The answer's JSON. Raises NotAnswered or NotLetIn."""
        payload = json.dumps(body, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "berth-agent"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        kept = self._connection is not None
        try:
            status, answer = self._ask(path, payload, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not kept or isinstance(error, TimeoutError):
                raise NotAnswered(f"{self.url} does not answer ({error or type(error).__name__}).") from error
            return self.post(path, body, key=key)  # the portal may have closed the connection that we kept
        return _understand(self.url, status, answer)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, path: str, payload: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = self._new()
        self._connection.request("POST", self._address.path + path, payload, headers)
        response = self._connection.getresponse()
        answer = response.read(MOST_BYTES)
        if not response.isclosed():
            raise http.client.HTTPException("its answer is too long")
        return response.status, answer

    def _new(self) -> http.client.HTTPConnection:
        host, port = self._address.host, self._address.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
        return http.client.HTTPSConnection(host, port, timeout=PATIENCE_S, context=self._tls)


@cache
def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Verifies certificate and host name against the system's authorities, or against `ca_file` alone."""
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise BadAddress(f"The CA file {ca_file} cannot be read as certificates in PEM ({error}).") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _understand(url: str, status: int, answer: bytes) -> Any:
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        document = None
    if status == 200 and document is not None:
        return document
    problem = document if isinstance(document, dict) else {}
    sentence = str(problem.get("detail") or f"{url} answered {status}, which is not an answer of a portal.")
    if 400 <= status < 500 and status not in (408, 429):
        raise NotLetIn(sentence, status=status, code=str(problem.get("code", "")))
    raise NotAnswered(sentence)
