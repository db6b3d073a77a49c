"""A program that uses Berth: the HTTP API of a running portal, with a token made by `manage.py create_token`."""

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from tests.portal_process import Portal
from tests.services import wait_for


class PortalApi:
    """`portal`: what knows its addresses, its driver and its management commands. `tls`: whom https trusts."""

    def __init__(
        self, portal: Portal | Any, *, user: str = "admin", token: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self._portal = portal
        self._tls = tls
        self.token = token or portal.manage("create_token", user).split()[-1]

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """(status, parsed body)."""
        request = urllib.request.Request(
            f"{self._portal.url}/api/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20, context=self._tls) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def launch(self, *, image: str = "", gpus: int = 1, **more: Any) -> str:
        """The new workspace's id. Without an image, the one that the portal's driver runs here."""
        image = image or {"process": "local-lab", "docker": "berth-lab"}[self._portal.environment["BERTH_DRIVER"]]
        asked = {"team": "default", "image": image, "gpus": gpus, "cpus": 0.5, "memory_gib": 1, **more}
        status, answer = self.call("POST", "workspaces", asked)
        assert status == 201, answer
        return str(answer["id"])

    def workspace(self, workspace: str) -> dict[str, Any]:
        status, answer = self.call("GET", f"workspaces/{workspace}")
        assert status == 200, answer
        assert isinstance(answer, dict)
        return answer

    def wait(self, workspace: str, *states: str, seconds: float = 60) -> dict[str, Any]:
        """Until the workspace is in one of the states; answers it."""

        def there() -> dict[str, Any] | None:
            now = self.workspace(workspace)
            return now if now["state"] in states else None

        found = wait_for(there, seconds=seconds, what=f"{workspace} to be {' or '.join(states)}")
        assert isinstance(found, dict)
        return found

    def ready(self, **changes: Any) -> dict[str, Any]:
        """A workspace that was launched and is ready."""
        seen = self.wait(self.launch(**changes), "ready", "failed", "stopped", seconds=90)
        assert seen["state"] == "ready", seen
        return seen

    def jupyter(self, method: str, workspace: str, path: str) -> Any:
        """A call to the workspace's own server, through the gateway; again while a portal that was just started has yet
        to find it."""
        request = urllib.request.Request(
            f"{self._portal.gateway_url}/w/{workspace}/{path}",
            method=method,
            headers={"Authorization": f"Bearer {self.token}"},
        )

        def answered() -> list[Any]:
            try:
                with urllib.request.urlopen(request, timeout=30, context=self._tls) as answer:
                    return [json.loads(answer.read())]
            except urllib.error.HTTPError as error:
                if error.code not in (404, 502, 503):
                    raise
                return []

        found = wait_for(answered, seconds=15, what=f"{path} to answer")
        assert isinstance(found, list)
        return found[0]

    # -- batch jobs
    def submit(self, **asked: Any) -> int:
        """The new job's id."""
        status, answer = self.call("POST", "jobs", {"team": "default", "cpus": 0.1, "memory_gib": 0.25, **asked})
        assert status == 201, answer
        return int(answer["id"])

    def job(self, job: int) -> dict[str, Any]:
        status, answer = self.call("GET", f"jobs/{job}")
        assert status == 200, answer
        assert isinstance(answer, dict)
        return answer

    def wait_for_job(self, job: int, *states: str, seconds: float = 60) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            now = self.job(job)
            return now if now["state"] in states else None

        try:
            found = wait_for(there, seconds=seconds, what=f"job {job} to be {' or '.join(states)}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.job(job)}\n{self._portal.output()}") from None
        assert isinstance(found, dict)
        return found
