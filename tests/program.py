"""A program with an API token, over real HTTP: what a CI job or a colleague's script would do."""

import json
import urllib.error
import urllib.request
from typing import Any

from tests.portal_process import Portal
from tests.services import wait_for


class Program:
    """Calls the REST API of a running portal."""

    def __init__(self, portal: Portal, user: str = "admin") -> None:
        self.portal = portal
        self.token = portal.manage("create_token", user)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"{self.portal.url}/api/v1/{path}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def launch(self, **changes: Any) -> dict[str, Any]:
        images = {"process": "local-lab", "docker": "berth-lab"}
        image = images[self.portal.environment["BERTH_DRIVER"]]
        form = {"team": "default", "image": image, "gpus": 1, "cpus": 0.5, "memory_gib": 1, **changes}
        status, made = self.call("POST", "workspaces", form)
        assert status == 201, made
        return made  # type: ignore[no-any-return]

    def until(self, workspace: str, *states: str, seconds: float = 90) -> dict[str, Any]:
        """Wait until the workspace is in one of the states; answers it."""
        last: dict[str, Any] = {}

        def there() -> bool:
            last.update(self.call("GET", f"workspaces/{workspace}")[1])
            return last["state"] in states

        try:
            wait_for(there, seconds=seconds, what=f"the workspace to be {' or '.join(states)}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {last}") from None
        return last

    def ready(self, **changes: Any) -> dict[str, Any]:
        made = self.launch(**changes)
        seen = self.until(made["id"], "ready", "failed", "stopped")
        assert seen["state"] == "ready", seen
        return seen

    def jupyter(self, method: str, workspace: dict[str, Any], path: str) -> Any:
        """A call to the workspace's own server, through the gateway; tried again while the gateway has yet to learn of
        it."""
        request = urllib.request.Request(
            f"{self.portal.gateway_url}/w/{workspace['id']}/{path}",
            method=method,
            headers={"Authorization": f"Bearer {self.token}"},
        )

        def answered() -> Any:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return [json.loads(answer.read())]
            except urllib.error.HTTPError as error:
                if error.code not in (404, 502, 503):
                    raise
                return None

        return wait_for(answered, seconds=10, what=f"{path} to answer")[0]
