"""What an unprivileged user needs of this machine to run an interpreter, and which closed folders stand in the way."""

import os
from pathlib import Path


def places_of(interpreter: Path) -> list[Path]:
    """The folders that must be reachable so that `interpreter` runs: its own environment and the Python below it.

    A virtual environment's interpreter is a link, often to a link: each step's prefix counts, because Python follows
    them one by one.
    """
    places, here = [], interpreter.absolute()
    for _step in range(40):  # as many links as the kernel follows
        places.append(here.parent.parent)
        if not here.is_symlink():
            break
        here = Path(os.path.normpath(here.parent / os.readlink(here)))
    places.append(interpreter.resolve().parent.parent)
    return list(dict.fromkeys(places))


def closed_above(place: Path) -> Path | None:
    """The topmost folder on the way to `place` that other users may not pass, or None if the way is open."""
    for folder in reversed(place.parents):
        if not folder.stat().st_mode & 0o001:
            return folder
    return None
