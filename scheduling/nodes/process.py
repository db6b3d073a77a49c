"""Workspaces as plain processes: for one trusted person on a machine without Docker.

It does not isolate as containers do, and says so in `inventory().notes`. What it does keep: servers listen on 127.0.0.1
only; started as root, workspaces run as an unprivileged user who cannot see the data folder; nothing of a workspace
survives its stop. Below the data folder it owns

    process/<allocation>/   supervisor, exit, passwd, tmp/   (processes/supervisor.py writes the first two)
    logs/<allocation>.log   and .log.1
    volumes/<name>/         which it makes and never removes

Long because the six verbs share one picture of what is alive; how each is done stands in `processes/`.
"""

import errno
import marshal
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from portal.kernel import clock
from scheduling.nodes.driver import (
    ContainerSpec,
    Inventory,
    LaunchRefused,
    NodeUnreachable,
    NotYetGone,
    Observation,
    Phase,
    ProgressSink,
    Sample,
)
from scheduling.nodes.engine.names import is_plain
from scheduling.nodes.engine.turns import Turns
from scheduling.nodes.gpus import GpuSource
from scheduling.nodes.health import Reading, owned
from scheduling.nodes.log_text import clean
from scheduling.nodes.processes import tree
from scheduling.nodes.processes.orders import LOOPBACK, environment, user_name, walls
from scheduling.nodes.processes.reasons import AS_ORDINARY_USER, NOT_ISOLATED, SENTENCES, explain_exit, refused
from scheduling.nodes.volumes import Volumes

# Imported instead of run as a file, so that its compiled bytecode is used; -I and -S keep everything else out.
START_SUPERVISOR = f"import sys; sys.path.append({str(Path(__file__).parent / 'processes')!r}); " + (
    "import supervisor; supervisor.main()"
)
LOG_LIMIT = 8 * 1024 * 1024
LOG_TAIL_LINES = 40
START_PATIENCE_S = 20.0  # for the supervisor's answer; it takes some 20 ms
KILL_PATIENCE_S = 5.0  # for the kernel to take killed processes away
ROOM_NEEDED_MIB = 32  # below this JupyterLab cannot even write its runtime files


class ProcessDriver:
    """The driver protocol over supervised processes. `site` tells this installation's from any other's."""

    name = "process"

    def __init__(self, *, data: Path, site: str, gpus: GpuSource, lab_python: Path) -> None:
        self._data = data.resolve()
        self._site = site
        self._gpus = gpus
        self._lab_python = lab_python.absolute()
        self._root = os.geteuid() == 0
        self._namespaces = self._root  # until the kernel says no
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._turns = Turns()  # one verb at a time per allocation: a stop waits for the launch, some 20 ms
        self._ports: dict[str, int] = {}
        self._ports_lock = Lock()
        self._states = self._data / "process"
        self._logs = self._data / "logs"
        self._volumes = Volumes(self._data)
        for folder, mode in ((self._states, 0o711), (self._logs, 0o700)):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)

    # -- what there is --------------------------------------------------------------------------------------------
    def inventory(self) -> Inventory:
        notes = [NOT_ISOLATED]
        if not self._root:
            notes.append(AS_ORDINARY_USER.format(user=user_name()))
        return Inventory(
            cpu_millis=1000 * len(os.sched_getaffinity(0)),
            memory_mib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2,
            gpus=self._gpus.inventory(),
            boot_id=self._boot,
            driver=self.name,
            notes=(*notes, *self._gpus.notes()),
            driver_version=self._gpus.driver_version(),
        )

    def sample(self) -> Sequence[Sample]:
        return self._gpus.sample()

    def gpu_health(self) -> tuple[Reading, ...] | None:
        """As `WatchesGpus` says."""
        readings = self._gpus.health()
        if not readings or not any(reading.processes for reading in readings):
            return readings
        try:
            living = self._living()
        except OSError as error:
            raise NodeUnreachable("data-unreadable", f"The data folder cannot be read: {error}.") from error
        owners = {process.pid: allocation for allocation, there in living.items() for process in there}
        return owned(readings, lambda pid: owners.get(pid, "") if tree.read(pid) else None)

    def observe(self) -> Sequence[Observation]:
        try:
            living = self._living()
            known = {folder.name for folder in self._states.iterdir()}
        except OSError as error:
            raise NodeUnreachable("data-unreadable", f"The data folder cannot be read: {error}.") from error
        # The processes were listed first: what has started since has a folder, and is asked for by itself.
        seen = (self._look_at(allocation, living=allocation in living) for allocation in sorted(known | set(living)))
        return [observation for observation in seen if observation is not None]

    def logs(self, allocation: str, *, tail: int) -> Iterator[bytes]:
        if not is_plain(allocation) or tail < 1:
            return iter(())
        text = b""
        for name in (f"{allocation}.log.1", f"{allocation}.log"):
            try:
                text += (self._logs / name).read_bytes()
            except FileNotFoundError:
                continue
        return iter(text.splitlines(keepends=True)[-tail:])

    def close(self) -> None:
        """Nothing is held: workspaces and their supervisors go on without the driver."""

    def _look_at(self, allocation: str, *, living: bool) -> Observation | None:
        left = self._read_state(allocation, "supervisor")
        if not left:
            # Either its supervisor is just starting, or a launch was cut short and nothing of it runs.
            return Observation(allocation, Phase.STARTING) if living else None
        pid, started, boot, port = left.split()
        if living or (boot == self._boot and tree.alive(int(pid), int(started))):
            return Observation(allocation, Phase.STARTING, address=(LOOPBACK, int(port)))
        tail = clean(b"".join(self.logs(allocation, tail=LOG_TAIL_LINES)))
        exit_code = self._read_state(allocation, "exit").strip()
        if not exit_code:
            code = "killed" if boot == self._boot else "machine-restarted"
            return Observation(allocation, Phase.EXITED, code=code, message=SENTENCES[code], log_tail=tail)
        code, message = explain_exit(int(exit_code), tail)
        return Observation(
            allocation, Phase.EXITED, exit_code=int(exit_code), code=code, message=message, log_tail=tail
        )

    def _living(self) -> dict[str, list[tree.Process]]:
        """Every process of ours by allocation. Raises OSError where the data folder cannot be read."""
        supervisors = {}
        for folder in self._states.iterdir():
            if left := self._read_state(folder.name, "supervisor"):
                pid, started, boot, _ = left.split()
                if boot == self._boot:
                    supervisors[folder.name] = (int(pid), int(started))
        return tree.processes_of(self._site, supervisors)

    def _read_state(self, allocation: str, name: str) -> str:
        try:
            return (self._states / allocation / name).read_text()
        except (FileNotFoundError, NotADirectoryError):
            return ""

    # -- launch ---------------------------------------------------------------------------------------------------
    def launch(self, spec: ContainerSpec, *, progress: ProgressSink) -> None:
        with self._turns.of(spec.allocation):
            if self._ran(spec.allocation):
                return
            self._check(spec)
            try:
                self._remove(spec.allocation)  # of a launch that was cut short
                answer = self._start(spec)
                if answer.startswith("no-namespaces") and self._namespaces:
                    self._namespaces = False
                    self._remove(spec.allocation)
                    answer = self._start(spec)
            except LaunchRefused:
                self._end(spec.allocation, grace_s=0)
                raise
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                answer = f"{'no-disk' if full else 'start-failed'}\n{error}"
            if answer != "ok":
                code, _, detail = answer.partition("\n")
                self._end(spec.allocation, grace_s=0)
                raise refused(code, detail=detail, program=self._command(spec)[0])

    def _ran(self, allocation: str) -> bool:
        """It runs, or did: an allocation is started once, and what is left of it waits to be read and stopped."""
        return bool(self._read_state(allocation, "supervisor")) or allocation in self._living()

    def _check(self, spec: ContainerSpec) -> None:
        """Every lasting obstacle that can be seen beforehand."""
        if not is_plain(spec.allocation):
            raise refused("bad-name", detail=spec.allocation)
        if not spec.command:
            raise refused("no-command")
        if spec.command[0] == "python3" and spec.port and not self._lab_python.exists():
            raise refused("lab-missing")
        for mount in spec.mounts:
            if mount.target != spec.home:
                raise refused("mount-refused", detail=mount.target)
        present = {gpu.uuid for gpu in self._gpus.inventory()}
        for device in spec.devices:
            if device.uuid not in present:
                raise refused("gpu-missing", detail=device.uuid)
        room = os.statvfs(self._data)
        if room.f_bavail * room.f_frsize < ROOM_NEEDED_MIB * 1024**2:
            raise refused("no-disk")

    def _start(self, spec: ContainerSpec) -> str:
        """Prepare the folders, start the supervisor, and give its answer back."""
        state = self._states / spec.allocation
        state.mkdir()
        state.chmod(0o711)
        owner = (spec.uid, spec.gid) if self._root else (os.geteuid(), os.getegid())
        tmp = _private_folder(state / "tmp", owner)
        if spec.mounts:  # _check has seen that there is no other than the home
            home = self._volumes.ensure(spec.mounts[0], uid=owner[0], gid=owner[1])
        else:
            home = _private_folder(state / "home", owner)
        passwd = state / "passwd"
        passwd.write_text(Path("/etc/passwd").read_text() + f"{spec.user}:x:{spec.uid}:{spec.gid}::{home}:/bin/bash\n")
        passwd.chmod(0o644)
        port = self._free_port(spec.allocation)
        secrets = [path for path in self._data.iterdir() if path.is_file()]
        if self._root and not self._namespaces:
            # Nothing can be covered up here, so modes must do: open the way to the home, shut the portal's files.
            self._data.chmod(0o711)
            home.parent.chmod(0o711)
            for path in secrets:
                path.chmod(path.stat().st_mode & 0o700)
        orders: dict[str, Any] = {
            "command": self._command(spec),
            "env": environment(
                spec, home=home, tmp=tmp, port=port, lab_python=self._lab_python, site=self._site, as_root=self._root
            ),
            "home": str(home),
            "uid": spec.uid if self._root else None,
            "gid": spec.gid if self._root else None,
            "isolate": self._namespaces,
            **walls(data=self._data, lab_python=self._lab_python, home=home, tmp=tmp, passwd=passwd),
            "secrets": [] if self._namespaces else [str(path) for path in secrets],
            "state": str(state),
            "log": str(self._logs / f"{spec.allocation}.log"),
            "log_limit": LOG_LIMIT,
            "port": port,
            "pids": spec.pids,
            "shm_mib": spec.shm_mib,
        }
        return self._hand_over(spec.allocation, orders)

    def _hand_over(self, allocation: str, orders: dict[str, Any]) -> str:
        log = os.open(self._logs / f"{allocation}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", START_SUPERVISOR],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                env={tree.ALLOCATION: allocation, tree.SITE: self._site},
                start_new_session=True,
            )
        finally:
            os.close(log)
        try:
            answer, _ = child.communicate(marshal.dumps(orders), timeout=START_PATIENCE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return f"start-failed\nits supervisor did not answer within {START_PATIENCE_S:.0f} s"
        tail = clean(b"".join(self.logs(allocation, tail=3)))
        return answer.decode() or f"start-failed\nits supervisor broke: {tail}"

    def _command(self, spec: ContainerSpec) -> list[str]:
        program, *rest = spec.command
        lab = program == "python3" and self._lab_python.exists()
        return [str(self._lab_python) if lab else program, *rest]

    def _free_port(self, allocation: str) -> int:
        """A port nobody listens on now. Between this and the server's own bind it may be lost: see `port-taken`."""
        while True:
            with socket.socket() as asked:
                asked.bind((LOOPBACK, 0))
                port: int = asked.getsockname()[1]
            with self._ports_lock:
                if port not in self._ports.values():
                    self._ports[allocation] = port
                    return port

    # -- stop -----------------------------------------------------------------------------------------------------
    def stop(self, allocation: str, *, grace_s: int) -> None:
        with self._turns.of(allocation):
            if is_plain(allocation):
                self._end(allocation, grace_s=grace_s)

    def _end(self, allocation: str, *, grace_s: int) -> None:
        self._signal(allocation, signal.SIGTERM if grace_s else signal.SIGKILL)
        gone = self._wait_until_gone(allocation, patience_s=grace_s) or self._kill(allocation)
        if not gone:
            raise NotYetGone("still-there", "Some of its processes do not end although they were killed.")
        try:
            self._remove(allocation)
        except OSError as error:
            raise NotYetGone("still-there", f"Its files cannot be removed: {error}.") from error

    def _kill(self, allocation: str) -> bool:
        until = clock.monotonic() + KILL_PATIENCE_S
        while clock.monotonic() < until:
            if not self._signal(allocation, signal.SIGKILL):
                return True
            time.sleep(0.01)
        return False

    def _signal(self, allocation: str, signum: signal.Signals) -> list[tree.Process]:
        """Send it to every process of the allocation, its supervisor last; answers which there were."""
        there = sorted(self._living().get(allocation, []), key=lambda found: -found.started)
        for process in there:
            tree.send(process, signum)
        return there

    def _wait_until_gone(self, allocation: str, *, patience_s: float) -> bool:
        until = clock.monotonic() + patience_s
        while allocation in self._living():
            if clock.monotonic() >= until:
                return False
            time.sleep(0.02)
        return True

    def _remove(self, allocation: str) -> None:
        """Every file of it but its volumes."""
        state = self._states / allocation
        if state.exists():
            if not self._root:
                _open_up(str(state))
            shutil.rmtree(state)
        for name in (f"{allocation}.log", f"{allocation}.log.1"):
            (self._logs / name).unlink(missing_ok=True)
        with self._ports_lock:
            self._ports.pop(allocation, None)


def _private_folder(path: Path, owner: tuple[int, int]) -> Path:
    """A new folder for `owner` alone."""
    path.mkdir(mode=0o700)
    os.chown(path, *owner)
    return path


def _open_up(folder: str) -> None:
    """A folder that its owner closed to himself cannot be emptied."""
    os.chmod(folder, 0o700)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            _open_up(entry.path)
