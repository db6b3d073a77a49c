"""Why a container did not start or came to its end, in words for the person who waits for it."""

import re
from datetime import datetime
from typing import Any

from scheduling.nodes.driver import LaunchRefused, Observation, Phase
from scheduling.nodes.engine.client import no_disk, out_of_space
from scheduling.nodes.log_text import clean

LOG_LINES = 20
_DENIED = re.compile(
    r"permission denied|operation not permitted|must be (?:run )?(?:as )?root|requires? root|"
    r"\beacces\b|not running as root|root privileges",
    re.IGNORECASE,
)
_PATH = re.compile(r"(?<![\w/])(/(?!proc|sys|dev)[\w.+@-]+(?:/[\w.+@-]+)*)")
#: how the container's init begins to say that it cannot start the main process
FATAL = b"[FATAL tini"
_NEVER = "0001-01-01T00:00:00Z"
#: what the engine reports of a container that was gone when it looked for it again
_LOST = 255
#: SIGKILL and SIGTERM, which programs do not send themselves
_FROM_OUTSIDE = (137, 143)
_NO_PROGRAM = re.compile(r"^\[FATAL tini.*\] exec (?P<program>.+) failed: No such file or directory$", re.MULTILINE)


def remedy(image: str, words: str) -> str:
    """The two lines that make an image work for people who are not root inside it."""
    denied = [line for line in words.splitlines() if _DENIED.search(line)]
    paths = [path.rstrip(".") for line in denied[-1:] for path in _PATH.findall(line)]
    place = paths[-1] if paths else "/root /opt /srv"
    if place.startswith("/root/"):
        place = "/root"  # closed as a whole: opening a file in it would not help
    return f"FROM {image}\nRUN chmod -R a+rwX {place}"


def start_refusal(words: str, *, image: str, command: str) -> LaunchRefused:
    """From what the engine said when it could not start the main process."""
    lower = words.lower()
    if out_of_space(words):
        return no_disk()
    if "could not select device driver" in lower:
        return LaunchRefused(
            "gpu-runtime-missing",
            "The node's Docker Engine cannot hand over GPUs; an admin must install "
            "nvidia-container-toolkit there and restart Docker.",
        )
    if "nvidia-container-cli" in lower or "cdi device injection failed" in lower or "unresolvable cdi" in lower:
        return LaunchRefused("gpu-refused", f"The node could not hand the GPU over: {words}.")
    if "permission denied" in lower or "operation not permitted" in lower:
        return LaunchRefused("image-needs-root", _needs_root(image, words))
    if "executable file not found" in lower or "no such file or directory" in lower:
        return LaunchRefused("command-missing", _no_program(image, command))
    if "address already in use" in lower or "port is already allocated" in lower:
        return LaunchRefused("port-taken", f"An address that the workspace needs is taken on the node: {words}.")
    if "no available ipv4 addresses" in lower:
        return LaunchRefused(
            "no-address", "The team's network on this node has no address left; stop a workspace first."
        )
    return LaunchRefused("start-refused", f"The container could not be started: {words}.")


def ending(
    allocation: str,
    state: dict[str, Any],
    *,
    image: str,
    memory_bytes: int,
    log: bytes,
    engine_started_at: datetime | None = None,
) -> Observation:
    """What to report of a container whose main process has ended. `state` is the engine's own account of it.

    `engine_started_at`: since when the engine runs, if its restart ends containers and that is known.
    """
    exit_code = int(state.get("ExitCode") or 0)
    tail = clean(log)
    code, message = _cause(state, exit_code, tail, image=image, memory_bytes=memory_bytes)
    if code in ("killed", "exited") and _is_older(state, engine_started_at):
        # Whatever the exit code: a program that heeds SIGTERM, as JupyterLab does, ends with 0 when the engine stops.
        code, message = (
            "engine-restarted",
            (
                "It ended before or while the Docker Engine was last started, most likely because the engine or the "
                "machine was restarted; start it again."
            ),
        )
    return Observation(
        allocation=allocation, phase=Phase.EXITED, exit_code=exit_code, code=code, message=message, log_tail=tail
    )


def _cause(state: dict[str, Any], exit_code: int, tail: str, *, image: str, memory_bytes: int) -> tuple[str, str]:
    if exit_code and state.get("OOMKilled"):
        return "oom-killed", (
            f"It used more memory than its limit of {memory_bytes // 2**20} MiB and was ended; "
            "ask for more memory, or load less at once."
        )
    if exit_code and out_of_space(tail):
        return "no-disk", "It could not write because the disk is full; delete files, or ask an admin for space."
    if exit_code and _DENIED.search(tail):
        return "image-needs-root", _needs_root(image, tail)
    if exit_code == 127 and (missing := _NO_PROGRAM.search(tail)):
        return "command-missing", _no_program(image, missing["program"])
    if exit_code == _LOST:
        return "killed", (
            "It ended with exit code 255, as when the Docker Engine or the machine was restarted; start it again."
        )
    if exit_code in _FROM_OUTSIDE:
        return "killed", (
            f"It was ended from outside (signal {exit_code - 128}), for instance because the Docker Engine or the "
            "machine was restarted; start it again."
        )
    if exit_code > 128:
        return "killed", f"Its main process was ended by signal {exit_code - 128}."
    if exit_code:
        return "exited", f"Its main process ended with exit code {exit_code}; the last lines of its log say why."
    return "exited", "Its main process ended without an error (exit code 0)."


def _is_older(state: dict[str, Any], engine_started_at: datetime | None) -> bool:
    """Whether the container was started by an engine process that is no more: then it ended with that at the latest."""
    started = state.get("StartedAt") or _NEVER
    if engine_started_at is None or started == _NEVER:
        return False
    return datetime.fromisoformat(started) < engine_started_at


def _no_program(image: str, program: str) -> str:
    return f"The image {image} has no program {program!r}; choose an image that contains it."


def _needs_root(image: str, words: str) -> str:
    return (
        "The image expects to run as root, and containers here never do. An image made with these two lines works:\n"
        f"{remedy(image, words)}"
    )
