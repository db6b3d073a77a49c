"""The supervisor of one workspace without a container: an interpreter of its own, never imported by the portal.

    driver ── Popen ──> main() ── fork ──> supervise() ── fork ──> become() ── exec ──> the workspace's command

Started by root it first takes the namespaces that make up for a container's walls: processes (so that the kernel itself
ends everything with the supervisor, however often it forked) and mounts (so that the portal's data folder is not there,
and the interpreter is, even where it lies below a closed folder such as /root). Only then does it start the command, as
the workspace's user. Started by anybody else it becomes the one to whom orphans fall, and ends them with the command.

The supervisor outlives the portal on purpose: it keeps the log and writes down the exit status, and the next driver
finds both. Its orders come marshalled on stdin (the driver runs the same interpreter, and each import costs each launch
its time, json alone 7 ms); its answer, "ok" or a code and what went wrong, goes to stdout.
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import resource
import select
import signal
import sys

TYPE_CHECKING = False  # typing is worth 10 ms at each launch, and only checkers need it
if TYPE_CHECKING:
    from typing import Any, NoReturn

CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 19
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
COVER = "mode=0755,size=1m,nr_inodes=4k"  # of the empty folders laid over closed ones

libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """The workspace cannot start: a stable code and what was tried."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}\n{detail}")


def main() -> None:
    orders = marshal.load(sys.stdin.buffer)
    try:
        if orders["isolate"] and libc.unshare(CLONE_NEWNS | CLONE_NEWPID) != 0:
            raise Failed("no-namespaces", os.strerror(ctypes.get_errno()))
        if os.fork() == 0:
            supervise(orders)
    except Failed as failure:
        answer(str(failure))
    except OSError as error:
        answer(f"{'no-disk' if error.errno in (errno.ENOSPC, errno.EDQUOT) else 'start-failed'}\n{error}")
    os._exit(0)


def answer(text: str) -> None:
    """Tell the driver how the start went; it reads until the last holder closes."""
    os.write(1, text.encode())
    os.close(1)


def supervise(orders: dict[str, Any]) -> NoReturn:
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # it ends with its command, or by SIGKILL
    state = os.open(orders["state"], os.O_DIRECTORY)
    introduce(state, port=orders["port"])
    log = Log(orders["log"], limit=orders["log_limit"])
    if orders["isolate"]:
        rearrange(orders)
    else:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    output, its_output = os.pipe2(os.O_CLOEXEC)
    trouble, its_trouble = os.pipe2(os.O_CLOEXEC)
    command = os.fork()
    if command == 0:
        become(orders, output=its_output, trouble=its_trouble)
    os.close(its_output)
    os.close(its_trouble)
    failed = os.read(trouble, 4096)  # empty once the command's exec has closed its end
    if failed:
        raise Failed(*failed.decode().split("\n", 1))
    answer("ok")

    os.set_blocking(output, False)
    status = None
    watched = [output, ended]
    while status is None:
        readable, _, _ = select.select(watched, [], [])
        if output in readable and not log.take(output):
            watched.remove(output)  # every holder of its output has closed it
        if ended in readable:
            os.read(ended, 512)
            status = reap(command)
    if not orders["isolate"]:
        end_children()
    if output in watched:
        log.take(output)
    os.pwrite(os.open("exit", os.O_WRONLY, dir_fd=state), f"{status}\n".encode(), 0)
    os._exit(0)  # as the first process of its namespace it takes everything in it along


def introduce(state: int, *, port: int) -> None:
    """Leave what the next driver needs: who this is (a pid means nothing without its start), and room for the exit.

    The exit status is later written over blanks: that needs no disk space.
    """
    with open("/proc/self/stat") as stat:  # still the machine's /proc, so these are the machine's numbers
        pid, rest = stat.read().split(" ", 1)
    started = rest.rsplit(") ", 1)[1].split()[19]
    with open("/proc/sys/kernel/random/boot_id") as boot:
        me = f"{pid} {started} {boot.read().strip()} {port}\n"
    for name, text in (("exit", " " * 15 + "\n"), ("supervisor", me)):
        file = os.open(name + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=state)
        os.write(file, text.encode())
        os.close(file)
        os.rename(name + ".new", name, src_dir_fd=state, dst_dir_fd=state)


def reap(command: int) -> int | None:
    """Collect the dead; the exit code of `command` once it is among them (128 + n for signal n, as shells count)."""
    status = None
    while True:
        try:
            pid, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == command:
            code = os.waitstatus_to_exitcode(how)
            status = 128 - code if code < 0 else code


def end_children() -> None:
    """Kill until no child is left; the children of the killed fall to us and are next."""
    me = os.getpid()
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for name in os.listdir("/proc"):
            if name.isdigit() and parent_of(name) == me:
                try:
                    os.kill(int(name), signal.SIGKILL)
                except ProcessLookupError:
                    pass
        select.select([], [], [], 0.005)


def parent_of(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rsplit(") ", 1)[1].split()[1])
    except OSError:
        return 0


class Log:
    """The command's output in a file, and in one older file beside it; never more than `limit` bytes in both.

    A full disk loses lines, not the workspace. Opened once by folder, so that it also works from behind a cover.
    """

    def __init__(self, path: str, *, limit: int) -> None:
        folder, self._name = os.path.split(path)
        self._folder = os.open(folder, os.O_DIRECTORY)
        self._half = limit // 2
        self._open()

    def _open(self) -> None:
        self._file = os.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600, dir_fd=self._folder)
        self._size = os.fstat(self._file).st_size

    def take(self, source: int) -> bool:
        """Move what is there now. False at the end of the source."""
        while True:
            try:
                block = os.read(source, 65536)
            except BlockingIOError:
                return True
            if not block:
                return False
            try:
                if self._size + len(block) > self._half:
                    os.rename(self._name, self._name + ".1", src_dir_fd=self._folder, dst_dir_fd=self._folder)
                    os.close(self._file)
                    self._open()
                self._size += os.write(self._file, block)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise


def rearrange(orders: dict[str, Any]) -> None:
    """The machine's file system without what the workspace must not see, and with what it must reach.

    Everything kept is opened before anything is covered, and bound to its old place through the open descriptor.
    """
    kept = {place: (os.open(source, os.O_PATH), writable) for source, place, writable in orders["keep"]}
    mount(None, "/", None, MS_REC | MS_SLAVE)
    os.umask(0o022)  # the folders on the way are for everybody to pass
    covered = []
    for path in sorted({*orders["cover"], *kept}, key=lambda path: (path.count("/"), path)):
        if path in kept:
            source, writable = kept[path]
            if not os.path.exists(path):
                os.makedirs(path)
            mount(f"/proc/self/fd/{source}", path, None, MS_BIND | MS_REC)
            if not writable:
                mount(None, path, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
            os.close(source)
        elif os.path.isdir(path):
            mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, COVER)
            covered.append(path)
    for path in covered:
        mount(None, path, None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, COVER)
    if os.path.isdir("/dev/shm"):
        mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={orders['shm_mib']}m")
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    def text(value: str | None) -> bytes | None:
        return None if value is None else os.fsencode(value)

    if libc.mount(text(source), text(target), text(kind), ctypes.c_ulong(flags), text(data)) != 0:
        raise Failed("no-namespaces", f"mount on {target}: {os.strerror(ctypes.get_errno())}")


def become(orders: dict[str, Any], *, output: int, trouble: int) -> NoReturn:
    """Turn this process into the workspace's command: its user, folder, streams and nothing of the supervisor's."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for changed in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(changed, signal.SIG_DFL)
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("500")  # when memory runs out, the workspace goes before the portal
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.umask(0o077)
        if orders["uid"] is not None:
            resource.setrlimit(resource.RLIMIT_NPROC, (orders["pids"], orders["pids"]))
            libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            os.setgroups([])
            os.setresgid(orders["gid"], orders["gid"], orders["gid"])
            os.setresuid(orders["uid"], orders["uid"], orders["uid"])
            refuse_to_see(orders["secrets"])
        os.chdir(orders["home"])
        os.execvpe(orders["command"][0], orders["command"], orders["env"])
    except Failed as failure:
        os.write(trouble, str(failure).encode())
    except PermissionError as error:
        os.write(trouble, f"unreachable\n{error}".encode())
    except OSError as error:
        os.write(trouble, f"{'command-missing' if error.errno == errno.ENOENT else 'start-failed'}\n{error}".encode())
    except ValueError as error:  # a NUL in an argument or a variable
        os.write(trouble, f"start-failed\n{error}".encode())
    finally:
        os._exit(126)  # this copy of the supervisor must never go on as one


def refuse_to_see(secrets: list[str]) -> None:
    """Where modes alone protect the portal's files, go no further if they do not. Asked as the workspace's user."""
    for path in secrets:
        if os.access(path, os.R_OK):
            raise Failed("data-readable", path)
