"""Getting an image onto the node: pulled only when it is not there, with bytes counted, given up on request."""

import threading
from collections.abc import Callable
from typing import Any

from docker import auth
from docker.errors import APIError
from docker.types.daemon import CancellableStream

from portal.kernel import clock
from scheduling.nodes.driver import LaunchRefused, ProgressSink
from scheduling.nodes.engine.client import Engine, NotFound, no_disk, out_of_space, said

#: images that only `make image` makes; asking a public registry for this name would fetch a stranger's image
LOCAL_PREFIX = "berth/"
_REPORT_EVERY_S = 0.25


class Abandoned(Exception):
    """stop() came while the launch was still under way."""


class Attempt:
    """One launch under way: how far its pull is, and whether somebody has asked to give it up."""

    def __init__(self) -> None:
        self.progress: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._abandoned = False
        self._hang_up: Callable[[], object] | None = None

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            hang_up = self._hang_up
        if hang_up is not None:
            hang_up()

    def check(self) -> None:
        if self._abandoned:
            raise Abandoned

    def listening(self, hang_up: Callable[[], object]) -> None:
        """How to cut the stream that the launch now waits for, so that giving up need not wait for its next byte."""
        with self._lock:
            self._hang_up = hang_up
        self.check()

    def forget(self) -> None:
        """The stream has ended: nothing to cut any more."""
        with self._lock:
            self._hang_up = None


class _Bytes:
    """Sums a pull's events. A layer's size is known once its download starts, so the total grows at first."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}

    def add(self, event: dict[str, Any]) -> None:
        layer, status = event.get("id", ""), event.get("status", "")
        detail = event.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total", 0) > 0:
            self._layers[layer] = (int(detail.get("current", 0)), int(detail["total"]))
        elif status in ("Download complete", "Pull complete") and layer in self._layers:
            self._layers[layer] = (self._layers[layer][1],) * 2

    def sums(self) -> tuple[int, int]:
        return sum(done for done, _ in self._layers.values()), sum(total for _, total in self._layers.values())


class Images:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ensure(self, image: str, *, attempt: Attempt, progress: ProgressSink) -> dict[str, Any]:
        """What the engine knows of the image, after pulling it if it must. Raises LaunchRefused, Abandoned."""
        found = self._find(image)
        if found is None:
            if image.startswith(LOCAL_PREFIX):
                raise LaunchRefused(
                    "image-missing",
                    f"The image {image} is not on this node; an admin makes it there with `make image`.",
                )
            self._pull(image, attempt=attempt, progress=progress)
            found = self._find(image)
            if found is None:
                raise LaunchRefused("image-missing", f"The image {image} was pulled but is not there; check its tag.")
        return found

    def _find(self, image: str) -> dict[str, Any] | None:
        api: Any = self._engine.api  # the stubs leave inspect_image untyped
        try:
            found: dict[str, Any] = api.inspect_image(image)
        except NotFound:
            return None
        except APIError as error:
            if error.is_client_error():
                raise LaunchRefused("image-name", f"{image} is not the name of an image: {said(error)}.") from error
            raise
        return found

    def _pull(self, image: str, *, attempt: Attempt, progress: ProgressSink) -> None:
        attempt.progress = (0, 0)
        progress(0, 0)
        counted, reported_at = _Bytes(), clock.monotonic()
        try:
            stream = self._open(image)
            attempt.listening(stream.close)
            for event in stream:
                attempt.check()
                if "error" in event:
                    raise _refusal(image, str(event["error"]))
                counted.add(event)
                attempt.progress = counted.sums()
                if clock.monotonic() - reported_at >= _REPORT_EVERY_S:
                    reported_at = clock.monotonic()
                    progress(*attempt.progress)
        except APIError as error:
            raise _refusal(image, said(error)) from error
        finally:
            attempt.forget()
            attempt.progress = None
        attempt.check()  # a stream that was hung up ends like one that is complete
        progress(*counted.sums())

    def _open(self, image: str) -> "CancellableStream[dict[str, Any]]":
        """The pull's events. The SDK's own pull() returns a generator, which another thread cannot close."""
        name, tag = _name_and_tag(image)
        api: Any = self._engine.api
        login = auth.get_config_header(api, auth.resolve_repository_name(name)[0])
        response = api._post(
            api._url("/images/create"),
            params={"fromImage": name, "tag": tag},
            headers={"X-Registry-Auth": login} if login else {},
            stream=True,
            timeout=None,
        )
        api._raise_for_status(response)
        return CancellableStream(api._stream_helper(response, decode=True), response)


def _name_and_tag(image: str) -> tuple[str, str]:
    """'host:5000/a/b:1' -> ('host:5000/a/b', '1'). No tag means latest: to the engine it would mean all of them."""
    if "@" in image:
        name, _, digest = image.partition("@")
        return name, digest
    head, _, last = image.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{head}/{name}" if head else name, tag or "latest"


def _refusal(image: str, words: str) -> LaunchRefused:
    words = " ".join(words.split()).rstrip(".")
    if out_of_space(words):
        return no_disk()
    lower = words.lower()
    if any(sign in lower for sign in ("denied", "unauthorized", "authentication required", "not found", "unknown")):
        return LaunchRefused(
            "image-missing",
            f"The image {image} is not on this node and its registry does not give it "
            f"out ({words}); check the name and the tag.",
        )
    return LaunchRefused(
        "image-missing",
        f"The image {image} is not on this node and its registry does not answer "
        f"({words}); an admin can load it with `docker load`, or pick another image.",
    )
