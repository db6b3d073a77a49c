"""Every sentence that the process driver says to people: what it cannot do, why it refused, how something ended."""

import re
import signal

from scheduling.nodes.driver import LaunchRefused

NOT_ISOLATED = (
    "Workspaces run as plain processes: they are not isolated from this machine, its network or each other, and their"
    " CPU and memory limits are not enforced. Only people who may use this machine anyway should use this portal."
)
AS_ORDINARY_USER = (
    "Berth was started by the ordinary user {user}: a workspace can read everything that {user} can, Berth's own keys"
    " and database included."
)
SENTENCES = {
    "no-disk": "The disk of the data folder is full: free some space on it and start again.",
    "lab-missing": "JupyterLab is not installed here: run `make lab` on the machine of the portal, then start again.",
    "command-missing": "The program {program} does not exist on this machine.",
    "unreachable": "The workspace's user may not run {program}: {detail}. Open its folders with `chmod -R o+rX`.",
    "no-namespaces": (
        "This machine does not let Berth hide its data folder from workspaces ({detail}). Use Docker, or start the"
        " portal as an ordinary user."
    ),
    "data-readable": (
        "The workspace's user could read Berth's own file {detail}; take the right from others with `chmod o-r`."
    ),
    "port-taken": "Another program took the port that its server was given: start it again.",
    "gpu-missing": "GPU {detail} is not on this machine any more.",
    "mount-refused": "Workspaces without Docker have only their home folder; {detail} cannot be mounted.",
    "bad-name": "The name {detail!r} is not usable.",
    "no-command": "Without Docker there is no image to tell what to run: the command is missing.",
    "start-failed": "It could not be started: {detail}.",
    "killed": "Its processes were ended from outside Berth.",
    "machine-restarted": "The machine was restarted while it ran.",
}

_PORT_TAKEN = re.compile(r"address already in use|EADDRINUSE|port \d+ is (already )?in use", re.IGNORECASE)
_NO_DISK = re.compile(r"no space left on device|ENOSPC|disk quota exceeded", re.IGNORECASE)


def refused(code: str, *, detail: str = "", program: str = "") -> LaunchRefused:
    """The error for an obstacle; an unknown code counts as a failed start."""
    sentence = SENTENCES.get(code, SENTENCES["start-failed"])
    return LaunchRefused(code, sentence.format(detail=detail, program=program))


def explain_exit(exit_code: int, log_tail: str) -> tuple[str, str]:
    """(stable code, sentence) for a command that ended by itself; 128 + n is signal n."""
    if exit_code == 0:
        return "exited", "Its program ended by itself."
    if _PORT_TAKEN.search(log_tail):
        return "port-taken", SENTENCES["port-taken"]
    if _NO_DISK.search(log_tail):
        return "no-disk", SENTENCES["no-disk"]
    if exit_code > 128:
        return "killed", f"Its program was ended by {_signal_name(exit_code - 128)}."
    return "exited", f"Its program ended with exit code {exit_code}."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
