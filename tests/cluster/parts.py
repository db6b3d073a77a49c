"""One process of the cluster: started, killed, started again."""

import os
import pwd
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.portal_process import ROOT


class Part:
    """`account`: who runs it, by default we. Its output goes to `log`, of all its starts."""

    def __init__(
        self,
        name: str,
        argv: Sequence[object],
        *,
        log: Path,
        variables: Mapping[str, str] | None = None,
        account: str = "",
    ) -> None:
        self.name = name
        self.log = log
        self._argv = [str(word) for word in argv]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("BERTH_", "DJANGO_"))}
        self._environment = {**kept, "PYTHONUNBUFFERED": "1", **(variables or {})}
        self._account = account
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        identity: dict[str, Any] = {}
        if self._account:
            identity = {"user": self._account, "group": pwd.getpwnam(self._account).pw_gid, "extra_groups": []}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self._argv, cwd=ROOT if not self._account else "/", env=self._environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output,
                start_new_session=True,  # a Ctrl-C at us is not one at them
                **identity,
            )  # fmt: skip

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """kill -9, with whatever it has started."""
        if self.process is not None and self.is_alive:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 20) -> None:
        """As its supervisor would: asked first, killed if it does not listen."""
        if self.process is None or not self.is_alive:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def alive(self) -> bool:
        """For whoever waits for it to be ready. Raises AssertionError with its last words when it has ended."""
        assert self.is_alive, f"{self.name} ended:\n{self.output()[-3000:]}"
        return True
