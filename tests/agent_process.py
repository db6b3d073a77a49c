"""`berth-agent` as its users run it: a process of its own, without Django and with nothing of the portal's environment."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scheduling.nodes.processes import tree
from tests.portal_process import ROOT

#: runs the agent with Django, DRF, Channels and the portal's other rooms out of reach
PROGRAM = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"django", "rest_framework", "channels", "psycopg", "tenants", "workspaces"}:
            raise ImportError(f"{name} is not installed here")
        if name.startswith(("portal.settings", "portal.compose", "scheduling.models", "scheduling.core")):
            raise ImportError(f"{name} is not on this machine")
sys.meta_path.insert(0, Refuse())
from scheduling.nodes.app import main
sys.exit(main())
"""


@dataclass
class AgentProcess:
    """An agent that was started, perhaps several times on the same folder. enter: what it is started through, such as
    `nsenter` into a network namespace."""

    state: Path
    log: Path
    enter: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, **variables: str) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*self.enter, sys.executable, "-c", PROGRAM, *arguments],
                cwd=ROOT, env=self._environment(variables), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def run(self, *arguments: str, told: str = "", **variables: str) -> tuple[int, str]:
        """To its end: the exit code and all that it printed."""
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=ROOT, env=self._environment(variables), input=told, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def _environment(self, variables: dict[str, str]) -> dict[str, str]:
        kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        return {**kept, "BERTH_AGENT_STATE": str(self.state), **variables}

    def key(self, number: int = 0) -> str:
        seats = json.loads((self.state / "membership.json").read_text())["seats"]
        return str(seats[number]["key"])

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def pause(self) -> None:
        """It and its network are as good as away."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """As systemd does. Asserts that it ends well."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(timeout=20)
        assert code == 0, self.output()

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@contextlib.contextmanager
def agent_folder() -> Iterator[AgentProcess]:
    """Not started yet. Afterwards it is killed and all that it started is gone."""
    folder = Path(tempfile.mkdtemp(prefix="berth-agent-"))
    folder.chmod(0o711)  # workspaces of the process driver run under another account
    agent = AgentProcess(state=folder / "state", log=folder / "log")
    try:
        yield agent
    finally:
        agent.kill()
        if (agent.state / "site_id").exists():
            site = (agent.state / "site_id").read_text().strip()
            for process in [one for found in tree.processes_of(site).values() for one in found]:
                tree.send(process, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
