"""The whole product as its users run it: `manage.py up` in a process of its own, on free ports and a private folder."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.docker_site import remove_site
from tests.services import free_port, wait_for

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Portal:
    """A portal that was started, perhaps several times on the same data. `password`: the admin's, once printed."""

    data: Path
    log: Path
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    gateway_port: int = field(default_factory=free_port)
    password: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def gateway_url(self) -> str:
        return f"http://localhost:{self.gateway_port}"

    def start(self, *arguments: str, seconds: float = 60) -> None:
        """`manage.py up` until it says that it is ready."""
        begins = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", *arguments],
                cwd=ROOT,
                env=self.variables(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C at the tests is not one at the portal
            )

        def ready() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the portal ended with {self.process.returncode}:\n{self.output()}")
            return "Berth is ready" in self.output(begins)

        try:
            wait_for(ready, seconds=seconds, what="the portal to be ready")
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.output(begins)}") from None
        printed = re.search(r"^\s*password: (\S+)$", self.output(), re.MULTILINE)
        self.password = printed[1] if printed else self.environment.get("BERTH_ADMIN_PASSWORD", "")

    def stop(self, *, seconds: float = 45) -> None:
        """Ctrl-C. Asserts that it ends well and leaves no process behind."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the portal did not stop within {seconds:.0f} s:\n{self.output()}") from None
        assert code == 0, f"the portal ended with {code}:\n{self.output()}"
        assert self.processes() == [], f"it left processes behind:\n{self.output()}"

    def kill(self) -> None:
        """kill -9: what a power cut looks like to the portal. Workspaces may live on."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def output(self, begins: int = 0) -> str:
        """All that it has printed, over all its starts; or from byte `begins` on."""
        return self.log.read_bytes()[begins:].decode(errors="replace") if self.log.exists() else ""

    def healthz(self) -> int:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def manage(self, *arguments: str) -> str:
        """A management command beside the running portal; answers what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.variables(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BERTH_", "DJANGO_"))}
        return {
            **kept,
            "BERTH_DATA": str(self.data),
            "BERTH_PORT": str(self.port),
            "BERTH_GATEWAY_PORT": str(self.gateway_port),
            "PYTHONUNBUFFERED": "1",
            **self.environment,
        }

    def processes(self) -> list[tuple[int, str]]:
        """Every process of this machine that has the data folder in its command, environment or working folder."""
        mark, found = str(self.data).encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            if int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):  # it ended while we looked
                command = (entry / "cmdline").read_bytes()
                if command and mark in command + (entry / "environ").read_bytes() + os.readlink(entry / "cwd").encode():
                    found.append((int(entry.name), command.replace(b"\0", b" ").decode(errors="replace")[:200]))
        return found


@contextlib.contextmanager
def running_portal(*, driver: str = "process", **environment: str) -> Iterator[Portal]:
    """A ready portal; afterwards it is stopped as by Ctrl-C, must leave no process behind, and its data is removed.

    What a killed one leaves on the machine, its workspaces and the firewall around them, is taken away here.
    """
    folder = Path(tempfile.mkdtemp(prefix="berth-portal-"))
    folder.chmod(0o711)  # workspaces of the process driver run under another account
    portal = Portal(data=folder / "data", log=folder / "log", environment={"BERTH_DRIVER": driver, **environment})
    try:
        portal.start()
        yield portal
        if portal.process is not None and portal.process.poll() is None:
            portal.stop()
    finally:
        portal.kill()
        for number, _ in portal.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.1)
        if driver == "docker" and (site := portal.data / "site_id").exists():
            url = environment.get("BERTH_DOCKER_HOST")
            remove_site(url=url, data=portal.data, site=site.read_text().strip())
        shutil.rmtree(folder, ignore_errors=True)
