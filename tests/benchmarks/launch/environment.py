"""What the comparison needs beside the product: JupyterHub and its proxy under .cache/bench, wrk, a Docker Engine."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from deploy.image.build import CannotBuild, build
from tests.benchmarks.launch.peers import BENCH, HUB, PROXY, ROOT
from tests.docker_engine import private_engine
from tests.prepare import apt, missing

PROXY_VERSION = "5.3.0"
PROGRAMS = ("wrk", "npm")


def prepare() -> None:
    """Install what is missing; ends the run with a sentence where it may not."""
    if wanted := [program for program in PROGRAMS if not shutil.which(program)]:
        if os.geteuid():
            sys.exit(f"The comparison needs these packages; as root: apt-get install {' '.join(wanted)}")
        apt(wanted)
    lock = ROOT / "deploy/requirements-bench.lock"
    BENCH.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, ROOT / "deploy/environment.py", HUB.parent, lock], check=True)
    if not PROXY.exists():
        folder = PROXY.parents[2]
        package = f"configurable-http-proxy@{PROXY_VERSION}"
        subprocess.run(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, package], check=True
        )


@dataclass(frozen=True)
class Engine:
    """`settings` for a Berth that uses it; empty where there is none, and then `sentence` says why."""

    sentence: str
    settings: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def engine(*, wanted: bool) -> Iterator[Engine]:
    """A private Docker Engine that has berth/lab."""
    if not wanted:
        yield Engine("not measured: left out by the options")
    elif os.geteuid() or "docker.io" in missing():
        yield Engine("not measured: a private engine needs root and Debian's docker.io")
    else:
        with contextlib.ExitStack() as running:
            try:
                started = running.enter_context(private_engine(disk_mib=0))  # measured on the disk that users have
                image = build(base_url=started.url)
            except (AssertionError, CannotBuild) as error:
                answer = Engine(f"not measured: {error}")
            else:
                client = started.client()
                answer = Engine(f"Engine {client.version()['Version']}, {image}", {"BERTH_DOCKER_HOST": started.url})
                client.close()
            yield answer
