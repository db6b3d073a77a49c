"""Makes one of the project's virtual environments from a hashed lock file; does nothing when it is already right.

    python3 deploy/environment.py .venv deploy/requirements.lock

Standard library only: it runs before anything else exists. A stamp in the environment names the lock it was made from
and is written last, so an environment whose making was interrupted has none and is made again from the start.
A locked file beside the folder, FOLDER.lock, keeps a second run waiting until the first is done.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)
INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


def main(folder: Path, lock: Path) -> int:
    if sys.version_info < OLDEST:
        print(
            f"Berth needs Python {OLDEST[0]}.{OLDEST[1]} or newer and this is {sys.version.split()[0]}. "
            "Name another one: make PYTHON=python3.12 up",
            file=sys.stderr,
        )
        return 1
    if _is_right(folder, lock):
        return 0
    os.umask(0o022)  # workspaces run under accounts of their own and must be able to read it
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Appended to, not removed afterwards: who waits for it must wait for the same file as who comes later.
    with open(folder.with_name(folder.name + ".lock"), "a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another run is making {folder}; waiting for it…", flush=True)
            fcntl.flock(held, fcntl.LOCK_EX)
        return 0 if _is_right(folder, lock) else _make(folder, lock, held=held.fileno())


def _make(folder: Path, lock: Path, *, held: int) -> int:
    # Another stamp means a finished environment that only needs this lock as well (or a newer one of it).
    finished = any(folder.glob(".made-from-*")) and _works(folder)
    _stamp(folder, lock).unlink(missing_ok=True)
    print(f"{'Updating' if finished else 'Making'} {folder} from {lock} (about a minute)…", flush=True)
    if not finished:
        if not _can_make_environments():
            return 1
        shutil.rmtree(folder, ignore_errors=True)
        if code := _run([sys.executable, "-m", "venv", str(folder)], held=held):
            print(f"{sys.executable} -m venv {folder} failed ({code}); its message is above.", file=sys.stderr)
            return 1
    pip = [str(_python(folder)), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-input"]
    if _run([*pip, "--require-hashes", "--no-deps", "-r", str(lock)], held=held):
        print(f"pip could not install {lock}; its message is above. The same command tries again.", file=sys.stderr)
        return 1
    _stamp(folder, lock).write_text(_fingerprint(lock))
    return 0


def _run(command: list[str], *, held: int) -> int:
    """Answers its exit code. In a session of its own: a Ctrl-C reaches us alone, and we end it without its traceback.

    It holds the lock as well, so that it keeps others away even if we are killed and it is not.
    """
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=(held,))
    try:
        return child.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise


def _is_right(folder: Path, lock: Path) -> bool:
    stamp = _stamp(folder, lock)
    return stamp.exists() and stamp.read_text() == _fingerprint(lock) and _python(folder).exists()


def _stamp(folder: Path, lock: Path) -> Path:
    return folder / f".made-from-{lock.name}"


def _fingerprint(lock: Path) -> str:
    """What the environment depends on: the lock, and the Python that the compiled packages were chosen for."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    return f"{digest} python {sys.version_info.major}.{sys.version_info.minor}\n"


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _works(folder: Path) -> bool:
    """False for an environment whose Python has gone or moved on to another minor version since."""
    if not _python(folder).exists():
        return False
    question = "import pip, sys; print(*sys.version_info[:2], sep='.')"
    answer = subprocess.run([str(_python(folder)), "-c", question], capture_output=True, text=True)
    return answer.stdout.strip() == f"{sys.version_info.major}.{sys.version_info.minor}"


def _can_make_environments() -> bool:
    """Debian and Ubuntu keep the module that fills a new environment with pip in a package of its own."""
    if _has_ensurepip():
        return True
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing Debian's python3-venv…", flush=True)
        # python3.X-venv fits this very interpreter; python3-venv fits the distribution's default one.
        own = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        for command in (["update"], ["-y", "install", own], ["-y", "install", "python3-venv"]):
            subprocess.run(
                ["apt-get", "-q", *command],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdout=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
            )
            if _has_ensurepip():
                return True
    print("Python cannot make virtual environments here: run `apt-get install python3-venv` as root.", file=sys.stderr)
    return False


def _has_ensurepip() -> bool:
    return subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: environment.py FOLDER LOCK")
    try:
        # SIGINT too: a shell that starts us in the background has it ignored. What was started must not outlive us.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
    except KeyboardInterrupt:
        print(f"Stopped; the next run finishes {sys.argv[1]}.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except OSError as error:
        sys.exit(f"Cannot make {sys.argv[1]}: {error}.")
