"""Home volumes and the passwd line of whoever works on them: plain folders and files below the data folder."""

import errno
import hashlib
import os
import shutil
import threading
from pathlib import Path

from scheduling.nodes.driver import ContainerSpec, LaunchRefused, Mount
from scheduling.nodes.engine.names import is_plain

#: below this a workspace could not even write its settings
_LEAST_FREE_BYTES = 32 * 2**20


class Volumes:
    """`<data>/volumes/<name>` holds what people keep; `<data>/identities/` what containers see as /etc/passwd."""

    def __init__(self, data: Path) -> None:
        self._volumes = data.resolve() / "volumes"
        self._identities = data.resolve() / "identities"
        self._lock = threading.Lock()

    def ensure(self, mount: Mount, *, uid: int, gid: int) -> Path:
        """The folder of a granted volume, made for its owner when new. Raises LaunchRefused.

        A folder that exists is never given another owner: that would be another person's work.
        """
        if not is_plain(mount.volume):
            raise LaunchRefused("volume-name", f"{mount.volume!r} is not the name of a volume.")
        path = self._volumes / mount.volume
        try:
            self._volumes.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self._volumes).free < _LEAST_FREE_BYTES:
                raise OSError(errno.ENOSPC, "less than 32 MiB left")
            with self._lock:
                if not path.exists():
                    # Made aside and moved into place, so that a crash leaves no volume that belongs to root.
                    fresh = self._volumes / f".{mount.volume}.new"
                    shutil.rmtree(fresh, ignore_errors=True)
                    fresh.mkdir(mode=0o700)
                    os.chown(fresh, uid, gid)
                    fresh.rename(path)
            owner = path.stat()
        except OSError as error:
            raise _refusal(error, f"The volume {mount.volume} could not be made") from error
        if not mount.read_only and owner.st_uid != uid and owner.st_gid != gid:
            raise LaunchRefused(
                "volume-owner",
                f"The volume {mount.volume} belongs to uid {owner.st_uid}, not to {uid}; "
                f"an admin can hand it over with `chown -R {uid}:{gid} {path}`.",
            )
        return path

    def identity(self, spec: ContainerSpec) -> tuple[Path, Path]:
        """Files to mount over /etc/passwd and /etc/group: root, nobody, and the person. Raises LaunchRefused."""
        if not is_plain(spec.user) or ":" in spec.home or "\n" in spec.home:
            raise LaunchRefused(
                "user-name", f"{spec.user!r} with home {spec.home!r} cannot be written as a passwd line."
            )
        passwd = (
            "root:x:0:0:root:/root:/bin/sh\n"
            f"{spec.user}:x:{spec.uid}:{spec.gid}:{spec.user}:{spec.home}:/bin/sh\n"
            "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
        )
        group = f"root:x:0:\n{spec.user}:x:{spec.gid}:\nnogroup:x:65534:\n"
        folder = self._identities / hashlib.sha256(f"{passwd}\0{group}".encode()).hexdigest()[:16]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in (("passwd", passwd), ("group", group)):
                if not (folder / name).exists():
                    fresh = folder / f".{name}.{spec.allocation}"
                    fresh.write_text(text)
                    fresh.chmod(0o644)
                    fresh.rename(folder / name)
        except OSError as error:
            raise _refusal(error, "The files that tell a container who its user is could not be written") from error
        return folder / "passwd", folder / "group"


def _refusal(error: OSError, what: str) -> LaunchRefused:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return LaunchRefused("no-disk", "The node's disk is full; an admin must free space there, then try again.")
    return LaunchRefused("volume-error", f"{what}: {error.strerror or error}.")
