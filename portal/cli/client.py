"""Berth's REST API for programs: `Berth.signed_in()`, then `submit`, `jobs`, `job`, `why`, `cancel`, `wait`.

Nothing but the standard library: it runs on machines where Berth is not installed.
"""

import http.client
import ipaddress
import json
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

OVER = frozenset({"succeeded", "failed", "cancelled", "timed_out"})
PATIENCE_S = 60.0
#: looks at a job's state: quick at first, then as often as a person would
_FIRST_LOOK_S, _LAST_LOOK_S = 0.2, 2.0


class CannotAsk(Exception):
    """The portal does not answer, or not as a portal would."""


class NotSignedIn(Exception):
    """There is no token, or the portal does not take it."""


class Refused(Exception):
    """The portal's own sentence. status and code are its own; field: what of the request it is about."""

    def __init__(self, detail: str, *, status: int, code: str, field: str = "") -> None:
        self.status, self.code, self.field = status, code, field
        super().__init__(detail)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token goes to the portal that it was made for, and nowhere else."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def login_file() -> Path:
    """Where `berth login` keeps address and token."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(config) / "berth" / "login.json"


@dataclass(frozen=True, slots=True)
class Berth:
    """A portal, asked with a person's token. url: as a browser has it."""

    url: str
    token: str

    @classmethod
    def signed_in(cls, file: Path | None = None) -> "Berth":
        """With what `berth login` kept. Raises NotSignedIn."""
        file = file or login_file()
        try:
            kept = json.loads(file.read_text())
            return cls(url=str(kept["url"]), token=str(kept["token"]))
        except FileNotFoundError:
            raise NotSignedIn("Nobody is signed in here; run `berth login URL` first.") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotSignedIn(f"{file} cannot be read ({error}); run `berth login URL` again.") from None

    def keep(self, file: Path | None = None) -> Path:
        """Write address and token where `signed_in` finds them, for nobody else to read."""
        file = file or login_file()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            json.dump({"url": self.url, "token": self.token}, out)
        fresh.replace(file)
        return file

    # -- jobs ---------------------------------------------------------------------------------------------------------
    def submit(self, **asked: Any) -> dict[str, Any]:
        """Queue a job; the fields are those of docs/jobs.md. Repeated over a broken line it makes one job."""
        return self._once("jobs", asked)

    def submit_all(self, asked: list[dict[str, Any]]) -> list[int]:
        """Queue all of these jobs or none; answers their ids."""
        return list(self._once("jobs:batch", asked)["ids"])

    def jobs(self, **filters: Any) -> Iterator[dict[str, Any]]:
        """The jobs that may be seen, newest first, page by page as they are asked for. Filters: team, owner, state,
        array."""
        wanted = {name: value for name, value in filters.items() if value not in (None, "")}
        while True:
            page = self.call("GET", f"jobs?{urlencode({'limit': 200, **wanted})}")
            yield from page["results"]
            if not page["next"]:
                return
            wanted["cursor"] = page["next"]

    def job(self, job: int) -> dict[str, Any]:
        return dict(self.call("GET", f"jobs/{quote(str(job), safe='')}"))

    def why(self, job: int) -> dict[str, Any]:
        return dict(self.call("GET", f"jobs/{quote(str(job), safe='')}/why"))

    def cancel(self, job: int) -> dict[str, Any]:
        return dict(self.call("POST", f"jobs/{quote(str(job), safe='')}:cancel"))

    def wait(self, job: int, *, news: Callable[[dict[str, Any]], None] = lambda job: None) -> dict[str, Any]:
        """Until it is over. `news` is told of each new state or reason. A portal that is away for a while is waited
        for."""
        said, pause = None, _FIRST_LOOK_S
        while True:
            try:
                seen = self.job(job)
            except CannotAsk:
                time.sleep(_LAST_LOOK_S)
                continue
            if (seen["state"], seen["reason"]) != said:
                said, pause = (seen["state"], seen["reason"]), _FIRST_LOOK_S
                news(seen)
            if seen["state"] in OVER:
                return seen
            time.sleep(pause)
            pause = min(_LAST_LOOK_S, pause * 1.3)

    def _once(self, path: str, body: Any) -> Any:
        key = secrets.token_hex(16)
        for attempt in range(3):
            try:
                return self.call("POST", path, body, {"Idempotency-Key": key})
            except CannotAsk:
                if attempt == 2:
                    raise
                time.sleep(attempt + 1)
        raise AssertionError("unreachable")

    # -- the line -----------------------------------------------------------------------------------------------------
    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """One request below /api/v1/. Raises Refused, NotSignedIn or CannotAsk."""
        request = urllib.request.Request(
            f"{_checked(self.url)}/api/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **(headers or {})},
        )
        try:
            with _opener.open(request, timeout=PATIENCE_S) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise _refusal(error, self.url) from None
        except (OSError, http.client.HTTPException) as error:
            raise CannotAsk(f"{self.url} does not answer: {getattr(error, 'reason', error)}.") from None
        except ValueError:
            raise CannotAsk(f"What answers at {self.url} is no portal of Berth.") from None


def _refusal(error: urllib.error.HTTPError, url: str) -> Exception:
    try:
        told = json.loads(error.read())
        detail, code, field = str(told["detail"]), str(told["code"]), str(told.get("field", ""))
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return CannotAsk(f"{url} answered with the status {error.code}, and not as a portal of Berth does.")
    if error.code == 401:
        return NotSignedIn(f"{detail} Then run `berth login {url}` again.")
    if error.code == 503:
        return CannotAsk(detail)
    return Refused(detail, status=error.code, code=code, field=field)


def _checked(url: str) -> str:
    """The address without a slash at its end. A token crosses the network only where nobody can read it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise CannotAsk(f"{url} is not an address of a portal; it must look like https://portal.example.org.")
    if parts.scheme == "http" and not _is_here(parts.hostname):
        raise CannotAsk(f"{url} is not encrypted, and your token would cross the network in the open; use https.")
    return url.rstrip("/")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
