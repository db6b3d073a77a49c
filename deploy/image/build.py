"""Builds berth/lab, JupyterLab in a Docker image, without a registry: Debian's packages and the locked Python ones.

    .venv/bin/python deploy/image/build.py [--fresh]        (make image)

It goes to the engine that the portal would use: BERTH_DOCKER_HOST, else DOCKER_HOST, else the usual socket.

Every step leaves its result in .cache/image under a digest of what went into it: a second build takes seconds, and a
new engine only the import. Needs root (chroot) and mmdebstrap, which it installs where it may.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import DockerException, ImageNotFound

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "deploy" / "requirements-lab.lock"
CACHE = ROOT / ".cache" / "image"
NAME, TAG = "berth/lab", "latest"
CONTENT = "berth.content"  # image label: digest of everything that went in

PACKAGES = ("python3", "python3-venv", "ca-certificates", "git", "less", "nano", "curl", "procps")
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*")
SETTINGS = (
    "ENV PATH=/opt/lab/bin:/usr/local/bin:/usr/bin:/bin",
    "ENV LANG=C.UTF-8",
    "ENV SHELL=/bin/bash",
    'CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser"]',
)
# A virtual environment that sees the user's own packages, so that `pip install` in a notebook lands on the home volume
# instead of failing on a read-only /opt; and bytecode that needs no look at its source, since nobody changes it.
INSTALL = r"""
set -e
python3 -m venv /opt/lab
sed -i 's/^include-system-site-packages = .*/include-system-site-packages = true/' /opt/lab/pyvenv.cfg
/opt/lab/bin/python3 -m pip install --quiet --no-index --find-links /wheels --no-deps --require-hashes --no-compile \
    -r /lab.lock
rm -rf /wheels /lab.lock /root/.cache /opt/lab/share/jupyter/lab/staging
find /opt/lab/lib -type d -name __pycache__ -prune -exec rm -rf {} +
find /opt/lab/share/jupyter/lab/static -name '*.map' -delete
/opt/lab/bin/python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/lab/lib
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /usr/lib/python3* || true
rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/log/* /tmp/* /var/tmp/*
chmod 1777 /tmp /var/tmp
"""


class CannotBuild(Exception):
    """What is wrong and what to do, in one sentence."""


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--fresh", action="store_true", help="take the newest packages instead of the cached ones")
    try:
        build(fresh=arguments.parse_args().fresh)
    except CannotBuild as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def build(*, fresh: bool = False, base_url: str | None = None) -> str:
    """Make the image exist on the engine at `base_url`, else on the portal's; answers its reference."""
    address = base_url or os.environ.get("BERTH_DOCKER_HOST") or os.environ.get("DOCKER_HOST")
    engine = connect(address)
    codename, sources = distribution()
    base_key = digest("base", codename, *PACKAGES, *LEFT_OUT, *(path.read_text() for path in sources))
    content = digest(base_key, LOCK.read_text(), INSTALL, *SETTINGS)
    try:
        if not fresh and content_on(engine) == content:
            print(f"{NAME}:{TAG} is up to date.")
            return f"{NAME}:{TAG}"
        archive = CACHE / f"lab-{content}.tar"
        if fresh or not archive.exists():
            make_archive(archive, base=CACHE / f"base-{base_key}.tar", codename=codename, sources=sources, fresh=fresh)
        print(f"Handing {archive.stat().st_size // 2**20} MB to the Docker Engine…", flush=True)
        changes = [*SETTINGS, f"LABEL {CONTENT}={content}"]
        answer = engine.import_image(src=str(archive), repository=NAME, tag=TAG, changes=changes)
    except (DockerException, requests.RequestException) as error:
        raise CannotBuild(f"The Docker Engine did not take the image: {error}") from error
    if content_on(engine) != content:
        raise CannotBuild(f"The Docker Engine did not take the image: {answer}")
    print(f"{NAME}:{TAG} is ready.")
    return f"{NAME}:{TAG}"


def connect(address: str | None) -> Any:
    try:
        return docker.APIClient(base_url=address, version="auto", timeout=600)  # "auto" asks the engine at once
    except (DockerException, requests.RequestException) as error:
        raise CannotBuild(
            f"No Docker Engine answers at {address or 'its usual socket'}; start it, or name the right one with "
            "BERTH_DOCKER_HOST."
        ) from error


def content_on(engine: Any) -> str | None:
    try:
        found = engine.inspect_image(f"{NAME}:{TAG}")
    except ImageNotFound:
        return None
    return (found["Config"].get("Labels") or {}).get(CONTENT)


def make_archive(archive: Path, *, base: Path, codename: str, sources: list[Path], fresh: bool) -> None:
    if os.geteuid() != 0:
        raise CannotBuild("Building the image needs root: it makes a small Debian in a folder and works inside it.")
    CACHE.mkdir(parents=True, exist_ok=True)
    if fresh or not base.exists():
        for old in CACHE.glob("base-*.tar"):
            old.unlink()
        make_base(base, codename=codename, sources=sources)
    root = Path(tempfile.mkdtemp(prefix="berth-image-"))
    try:
        root.chmod(0o755)
        run("tar", "-C", root, "-xf", base)
        python = re.search(r"python(3\.\d+)", os.readlink(root / "usr/bin/python3"))
        if python is None:
            raise CannotBuild("The base has no python3.")
        wheels = fetch_wheels(python.group(1))
        print("Installing JupyterLab and compiling it…", flush=True)
        shutil.copytree(wheels, root / "wheels")
        shutil.copy(LOCK, root / "lab.lock")
        run("chroot", root, "/bin/sh", "-c", INSTALL, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"})
        for old in CACHE.glob("lab-*.tar"):
            old.unlink()
        fresh_archive = archive.with_suffix(".part")
        run(
            "tar",
            "-C",
            root,
            "--numeric-owner",
            "--exclude=./dev/*",
            "--exclude=./proc/*",
            "--exclude=./sys/*",
            "-cf",
            fresh_archive,
            ".",
        )
        fresh_archive.rename(archive)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def make_base(base: Path, *, codename: str, sources: list[Path]) -> None:
    if shutil.which("mmdebstrap") is None:
        print("Installing mmdebstrap from the distribution's packages…", flush=True)
        run("apt-get", "-q", "update")
        run(
            "apt-get",
            "-qy",
            "--no-install-recommends",
            "install",
            "mmdebstrap",
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
    print(f"Making a small {codename} from this machine's own package sources…", flush=True)
    part = base.with_suffix(".part.tar")
    run(
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        *(f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT),
        codename,
        part,
        *sources,
    )
    part.rename(base)


def fetch_wheels(python: str) -> Path:
    """Everything the lock names, for the base's Python; through this machine's own pip, so that its settings count."""
    wheels = CACHE / f"wheels-{python}-{digest(LOCK.read_text())}"
    if not wheels.exists():
        print("Fetching JupyterLab…", flush=True)
        part = wheels.with_suffix(".part")
        run(
            sys.executable,
            "-m",
            "pip",
            "download",
            "-qq",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            f"--python-version={python}",
            "--dest",
            part,
            "-r",
            LOCK,
        )
        for old in set(CACHE.glob("wheels-*")) - {part}:
            shutil.rmtree(old)
        part.rename(wheels)
    return wheels


def distribution() -> tuple[str, list[Path]]:
    """This machine's release and the files that say where its packages come from, foreign repositories left out."""
    release = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
    codename = release.get("VERSION_CODENAME", "").strip('"')
    folder = Path("/etc/apt")
    files = [
        folder / "sources.list",
        *sorted((folder / "sources.list.d").glob("*.list")),
        *sorted((folder / "sources.list.d").glob("*.sources")),
    ]
    own = [path for path in files if path.exists() and _is_of(path.read_text(), codename)]
    if not codename or not own:
        raise CannotBuild(
            "The image is made from Debian's or Ubuntu's packages, and this machine has no source of them."
        )
    return codename, own


def _is_of(text: str, codename: str) -> bool:
    """Whether a sources file has an entry for the release itself ("bookworm", not "vendor-bookworm")."""
    lines = [line for line in text.splitlines() if re.match(r"deb\s|Suites:", line)]
    return any(re.search(rf"(?<![\w-]){re.escape(codename)}(?![\w-])", line) for line in lines)


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def run(*argv: object, env: dict[str, str] | None = None) -> None:
    words = [str(word) for word in argv]
    try:
        subprocess.run(words, check=True, env=env)
    except FileNotFoundError as error:
        raise CannotBuild(f"{words[0]} is not installed.") from error
    except subprocess.CalledProcessError as error:
        raise CannotBuild(f"{words[0]} failed with exit code {error.returncode}; its own words are above.") from error


if __name__ == "__main__":
    sys.exit(main())
