"""`make check`: every static check, all of them even when one fails, with one closing line each."""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parent.parent

CHECKS = {
    "types (mypy)": ["mypy"],
    "migrations are complete": ["python", "manage.py", "makemigrations", "--check", "--dry-run"],
    "who imports whom (import-linter)": ["lint-imports", "--no-cache"],
    "templates (djlint)": ["djlint", "templates", "--lint", "--quiet"],
    "style (ruff check)": ["ruff", "check", "."],
    "format (ruff format)": ["ruff", "format", "--check", "."],
}


def run(name: str, command: list[str], data: str) -> tuple[str, float, subprocess.CompletedProcess[str]]:
    began = time.monotonic()
    # Checks read the code, not this machine's portal: a data folder of their own, and no setting from outside.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BERTH_")}
    environment |= {"BERTH_DATA": data, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=ROOT, env=environment, text=True, capture_output=True
    )
    return name, time.monotonic() - began, done


def main() -> int:
    failed = []
    with tempfile.TemporaryDirectory() as data, ThreadPoolExecutor(max_workers=2) as pool:
        waiting = [pool.submit(run, name, command, data) for name, command in CHECKS.items()]
        for future in waiting:
            name, seconds, done = future.result()
            print(f"{'ok    ' if done.returncode == 0 else 'FAILED'} {name} ({seconds:.0f} s)", flush=True)
            if done.returncode:
                failed.append(name)
                print(done.stdout + done.stderr, flush=True)
    print(f"make check: {len(failed)} of {len(CHECKS)} failed" if failed else f"make check: all {len(CHECKS)} passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
