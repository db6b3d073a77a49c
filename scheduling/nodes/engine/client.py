"""One connection pool to the Docker Engine, and the one place where its errors become ours."""

import contextlib
import threading
from collections.abc import Iterator
from datetime import datetime

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException
from docker.errors import NotFound as NotFound  # re-exported: "the container is not there" is an answer, not an error

from portal.kernel import clock
from scheduling.nodes.driver import DriverError, LaunchRefused, NodeUnreachable
from scheduling.nodes.engine.age import engine_started_at
from scheduling.nodes.engine.answers import engine_url

#: what the engine says while it goes down or comes up; asking again helps
_PASSING = (
    "context canceled",
    "shutting down",
    "connection refused",
    "transport is closing",
    "error while dialing",
    "the client connection is closing",
    "no such container",
)


#: for one answer. Giving up early is safe, since every verb may be asked again; a hanging engine must not hang the node
_PATIENCE_S = 20


class Engine:
    """Hands out the SDK's low-level client; it connects on first use, so that an engine away now may come later."""

    def __init__(self, base_url: str | None) -> None:
        self.url = engine_url(base_url)
        self._client: docker.APIClient | None = None
        self._lock = threading.Lock()

    @property
    def api(self) -> docker.APIClient:
        """The shared client. Its threads each take a connection of their own out of the pool."""
        with self._lock:
            if self._client is None:
                # "auto": Engine 29 refuses the old API versions, 20.10 knows no newer one.
                self._client = docker.APIClient(
                    base_url=self.url, version="auto", timeout=_PATIENCE_S, max_pool_size=32
                )
            return self._client

    def started_at(self) -> datetime | None:
        """Since when the engine runs; None where that is unknown, or where containers outlive its restarts."""
        if self.api.info().get("LiveRestoreEnabled"):
            return None
        return engine_started_at(self.url, now=clock.now())

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    @contextlib.contextmanager
    def answering(self) -> Iterator[docker.APIClient]:
        """Run one verb: whatever goes wrong with the engine leaves it as NodeUnreachable, ours pass through."""
        try:
            yield self.api
        except DriverError:
            raise
        except APIError as error:
            raise NodeUnreachable(
                "engine-error", f"The Docker Engine answered with an error: {said(error)}."
            ) from error
        except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError) as error:
            raise NodeUnreachable("engine-away", f"The Docker Engine at {self.url} does not answer.") from error


@contextlib.contextmanager
def refusing(code: str, doing: str) -> Iterator[None]:
    """Turn the engine's "no" to `doing` something for a launch into LaunchRefused, unless it is only passing."""
    try:
        yield
    except APIError as error:
        raise_if_passing(error)
        if out_of_space(said(error)):
            raise no_disk() from error
        raise LaunchRefused(code, f"The Docker Engine refused {doing}: {said(error)}.") from error


def raise_if_passing(error: APIError) -> None:
    """NodeUnreachable when the engine's error is about itself, so that the same launch may be tried again."""
    if any(sign in said(error).lower() for sign in _PASSING):
        raise NodeUnreachable("engine-error", f"The Docker Engine was interrupted: {said(error)}.") from error


def said(error: APIError) -> str:
    """The engine's own words, on one line, without the final stop."""
    return " ".join(str(error.explanation or error).split()).rstrip(".")


def out_of_space(words: str) -> bool:
    return "no space left on device" in words.lower() or "disk quota exceeded" in words.lower()


def no_disk() -> LaunchRefused:
    return LaunchRefused("no-disk", "The node's disk is full; an admin must free space there, then try again.")
