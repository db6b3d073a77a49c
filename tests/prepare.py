"""Installs the servers that the tests start, from Debian's packages, where they are missing and it may.

Called once before the tests; no test installs anything. As an ordinary user it only says what to install.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SERVERS: dict[str, Callable[[], bool]] = {
    "postgresql": lambda: any(Path("/usr/lib/postgresql").glob("*/bin/initdb")),
    "redis-server": lambda: shutil.which("redis-server") is not None,
    "docker.io": lambda: shutil.which("dockerd") is not None,
    "iptables": lambda: shutil.which("iptables") is not None,
    "nginx-light": lambda: shutil.which("nginx") is not None,
    "iproute2": lambda: shutil.which("ip") is not None,
    "mmdebstrap": lambda: shutil.which("mmdebstrap") is not None,
    "busybox-static": lambda: shutil.which("busybox") is not None,
    "chromium": lambda: shutil.which("chromium") is not None,
    "fonts-dejavu-core": lambda: Path("/usr/share/fonts/truetype/dejavu").exists(),
}
POLICY = Path("/usr/sbin/policy-rc.d")


def prepare() -> list[str]:
    """Install what is missing; answers what is missing still."""
    wanted = missing()
    if wanted and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing {' '.join(wanted)} from the distribution's packages…", flush=True)
        apt(wanted)
    return missing()


def missing() -> list[str]:
    return [package for package, there in SERVERS.items() if not there()]


def apt(packages: list[str]) -> None:
    """Install Debian packages without starting the servers in them."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Debian starts a server as soon as it is installed; tests start private ones, and nothing else should run.
    held_back = not POLICY.exists()
    if held_back:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        for command in (["update"], ["-y", "--no-install-recommends", "install", *packages]):
            subprocess.run(
                ["apt-get", "-q", *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                check=True,
            )
    finally:
        if held_back:
            POLICY.unlink(missing_ok=True)


if __name__ == "__main__":
    still = prepare()
    if still:
        sys.exit(f"The tests need these packages; as root: apt-get install {' '.join(still)}")
