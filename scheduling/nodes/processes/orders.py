"""What a supervisor is told: the environment of its command, and what the command may see of the machine."""

import os
import pwd
from pathlib import Path

from scheduling.nodes.driver import ContainerSpec, addresses_of
from scheduling.nodes.processes import reach, tree

LOOPBACK = "127.0.0.1"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def environment(
    spec: ContainerSpec, *, home: Path, tmp: Path, port: int, lab_python: Path, site: str, as_root: bool
) -> dict[str, str]:
    """Everything the workspace gets to know, and nothing of the portal's own environment but time and language.

    `as_root`: the command runs as `spec.user`; else as ourselves, who may want to find our own programs on PATH.
    """
    ours = os.environ
    real = ",".join(device.uuid for device in spec.devices if not device.simulated)
    simulated = ",".join(device.uuid for device in spec.devices if device.simulated)
    user = spec.user if as_root else user_name()
    return {
        **{name: ours[name] for name in ("TZ", "LC_ALL") if name in ours},
        "LANG": ours.get("LANG", "C.UTF-8"),
        "PATH": f"{lab_python.parent}:{SYSTEM_PATH if as_root else ours.get('PATH', os.defpath)}",
        "SHELL": "/bin/bash",
        **dict(spec.env),
        # From here on nothing in the spec may say otherwise: it is how the driver finds and bounds the workspace.
        "HOME": str(home),
        "USER": user,
        "LOGNAME": user,
        "TMPDIR": str(tmp),
        "BERTH_JOB": spec.job,
        "BERTH_BIND": LOOPBACK,
        "BERTH_PORT": str(port),
        tree.ALLOCATION: spec.allocation,
        tree.SITE: site,
        "CUDA_VISIBLE_DEVICES": real,  # empty: no card, where an absent variable would mean every card
        "NVIDIA_VISIBLE_DEVICES": real or "void",
        "BERTH_SIMULATED_GPUS": simulated,
        **addresses_of(spec, here=lambda replica: LOOPBACK),
    }


def walls(*, data: Path, lab_python: Path, home: Path, tmp: Path, passwd: Path) -> dict[str, object]:
    """`cover`: folders to lay an empty one over. `keep`: (source, place, writable) of what is to be seen all the same.

    Covered are Berth's data and every closed folder on the way to what is needed; the interpreter's folders are kept
    only where they lie below one of those.
    """
    interpreter = [place for place in reach.places_of(lab_python) if place.exists() and reach.closed_above(place)]
    closed = [folder for place in (home, *interpreter) if (folder := reach.closed_above(place))]
    folders = {data, *closed}
    return {
        "cover": sorted(str(folder) for folder in folders if not folders & set(folder.parents)),
        "keep": [
            (str(home), str(home), True),
            (str(tmp), str(tmp), True),
            (str(passwd), "/etc/passwd", False),
            *((str(place), str(place), False) for place in interpreter),
        ],
    }


def user_name() -> str:
    """The login name of whoever runs Berth, or his number if he has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
