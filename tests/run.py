"""`make test`: install missing servers, run the tests that use a database on PostgreSQL, then every test on SQLite.

Tests start their own private servers and stop them again; the one that is started here is the PostgreSQL that the
second run's settings point to. Two workers share the tests (`tests/lanes.py` says which stay together): most tests
wait more than they compute.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.prepare import prepare  # noqa: E402
from tests.services import postgres  # noqa: E402

NOTHING_COLLECTED = 5
#: more would gain nothing: the tests with Docker, half of the whole, follow each other in one
WORKERS = ["-n", "2"]
LEAVING_S = 60


def main(arguments: list[str]) -> int:
    long = "--long" in arguments
    arguments = [argument for argument in arguments if argument != "--long"]
    if still := prepare():
        print(f"The tests need these packages; as root: apt-get install {' '.join(still)}", file=sys.stderr)
        return 1
    speed = "long" if long else "not long"
    closing, codes = [], []
    with postgres() as url:
        for name, marks, environment in (
            ("on PostgreSQL", f"databases and {speed}", {"BERTH_DATABASE_URL": url}),
            ("everything, on SQLite", speed, {}),
        ):
            print(f"\n===== tests: {name} =====", flush=True)
            code, line = _pytest(marks, arguments, environment)
            closing.append(f"{name}: {line}")
            # Some of the tests that somebody names may all be without a database; of all tests, some must have one.
            codes.append(0 if code == NOTHING_COLLECTED and arguments else code)
    print("\n" + "\n".join(closing))
    return max(codes)


def _pytest(marks: str, arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and closing line; its output passes through as it comes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-m", marks, "--color=no", *WORKERS, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    last = ""
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        if re.match(r"=+ .* in [\d.]+s.* =+$", line):
            last = line.strip()
            break
    try:
        print(process.communicate(timeout=LEAVING_S)[0], end="", flush=True)
    except subprocess.TimeoutExpired:
        process.kill()
        print(f"pytest has not ended {LEAVING_S} s after its last test: a test left a thread behind.", flush=True)
        return 1, last
    return process.returncode, last


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
