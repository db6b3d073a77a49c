"""What only the process driver promises: walls as far as plain processes have any, and nothing that outlives a stop."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scheduling.nodes import process
from scheduling.nodes.driver import Device, LaunchRefused, Mount, NodeUnreachable, Phase
from scheduling.nodes.processes import tree
from tests.contract.kit import Program, eventually, log_of, look_at, no_progress, processes_with
from tests.contract.process_kit import ProcessKit, process_kit

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="changing user and hiding folders takes root")
ALLOWED = {
    "HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_",
    "BERTH_ALLOCATION", "BERTH_SITE", "BERTH_JOB", "BERTH_BIND", "BERTH_PORT", "BERTH_SIMULATED_GPUS",
    "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES",
}  # fmt: skip


@pytest.fixture
def here() -> Iterator[ProcessKit]:
    with process_kit() as kit:
        yield kit


@pytest.fixture
def ordinary() -> Iterator[ProcessKit]:
    with process_kit(ordinary=True) as kit:
        yield kit


def said(kit: ProcessKit, *command: str, allocation: str = "a1", **changes: Any) -> list[str]:
    """Run a command to its end in a workspace; the lines it printed."""
    driver = kit.driver()
    driver.launch(kit.spec(allocation, Program.SLEEP, command=command, **changes), progress=no_progress)
    eventually(lambda: (o := look_at(driver, allocation)) and o.phase is Phase.EXITED, what=f"the end of {command}")
    return log_of(driver, allocation)


def shell(kit: ProcessKit, script: str, **changes: Any) -> list[str]:
    return said(kit, "/bin/sh", "-c", script, **changes)


# -- what a workspace sees --------------------------------------------------------------------------------------------
@as_root
def test_a_workspace_can_read_neither_the_secret_key_nor_the_database(here: ProcessKit) -> None:
    for name in ("secret_key", "berth.sqlite3"):
        (here.data / name).write_text("the-secret")
        (here.data / name).chmod(0o644)  # careless on purpose
    lines = shell(here, f"cat {here.data}/secret_key {here.data}/berth.sqlite3; ls {here.data}; id -u")
    assert "the-secret" not in "\n".join(lines)
    assert lines[-1] == "20000"
    assert {"secret_key", "berth.sqlite3", "logs"} & set(lines) == set()


@as_root
def test_a_workspace_cannot_see_the_home_of_another_person(here: ProcessKit) -> None:
    shell(here, 'echo mine > "$HOME/diary"', allocation="a1", uid=20001)
    lines = shell(here, f"cat {here.home('home-a1')}/diary; ls {here.data}/volumes", allocation="a2", uid=20002)
    assert "mine" not in lines
    assert "home-a1" not in lines
    assert "home-a2" in lines


@as_root
def test_a_workspace_sees_only_its_own_processes(here: ProcessKit) -> None:
    lines = shell(here, "for p in /proc/[0-9]*; do echo $p; done")
    assert len(lines) < 10
    assert f"/proc/{os.getpid()}" not in lines


@as_root
def test_a_workspace_has_no_privilege_left_and_cannot_get_one_back(here: ProcessKit) -> None:
    lines = shell(here, "grep -E 'Cap(Inh|Prm|Eff|Amb)|NoNewPrivs|Groups|Umask' /proc/self/status")
    status = dict(line.split(":", 1) for line in lines)
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Groups"].split() == []
    assert status["Umask"].strip() == "0077"


@as_root
def test_its_user_has_a_name_and_its_group_of_one_home(here: ProcessKit) -> None:
    lines = shell(here, "whoami; pwd; echo $HOME; stat -c '%U %a' .", user="alice")
    home = str(here.home("home-a1"))
    assert lines == ["alice", home, home, "alice 700"]


def test_nothing_of_the_portals_environment_reaches_a_workspace(
    here: ProcessKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BERTH_SECRET_KEY", "BERTH_ADMIN_PASSWORD", "DJANGO_SETTINGS_MODULE", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "private")
    lines = shell(here, "env")
    assert {line.split("=", 1)[0] for line in lines} <= ALLOWED


def test_a_spec_cannot_pass_itself_off_as_another_allocation(here: ProcessKit) -> None:
    lines = shell(here, "env", env=(("BERTH_ALLOCATION", "a2"), ("BERTH_BIND", "0.0.0.0"), ("HOME", "/")))
    assert "BERTH_ALLOCATION=a1" in lines
    assert "BERTH_BIND=127.0.0.1" in lines
    assert "HOME=/" not in lines


def test_without_a_gpu_of_its_own_a_workspace_sees_no_card(here: ProcessKit) -> None:
    lines = shell(here, "env", devices=(here.device,))
    assert "CUDA_VISIBLE_DEVICES=" in lines
    assert f"BERTH_SIMULATED_GPUS={here.device.uuid}" in lines


@as_root
def test_an_interpreter_below_a_closed_folder_runs_and_the_folder_stays_closed(here: ProcessKit) -> None:
    closed = here.data.parent / f"{here.data.name}-closed"
    closed.mkdir(mode=0o700)
    try:
        (closed / "diary").write_text("the-secret")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", closed / "lab"], check=True)
        here.lab_python = closed / "lab" / "bin" / "python"
        look = f"import os, sys, json; print(sys.prefix, os.getuid()); print(os.listdir({str(closed)!r}))"
        assert said(here, "python3", "-c", look) == [f"{closed / 'lab'} 20000", "['lab']"]
        assert said(here, "/bin/sh", "-c", "command -v python", allocation="a2") == [str(here.lab_python)]
    finally:
        subprocess.run(["rm", "-rf", closed], check=True)


# -- where namespaces are not to be had -------------------------------------------------------------------------------
WITHOUT_NAMESPACES = """
    import sys
    from pathlib import Path
    from scheduling.nodes.driver import LaunchRefused
    from tests.contract.kit import Program, eventually, log_of, look_at, no_progress
    from tests.contract.process_kit import ProcessKit

    kit = ProcessKit(Path(sys.argv[1]), lab_python=Path(sys.argv[2]))
    driver = kit.driver()
    try:
        driver.launch(kit.spec("a1", Program.SLEEP, command=tuple(sys.argv[3:])), progress=no_progress)
    except LaunchRefused as refusal:
        print("refused", refusal.code, refusal.message)
    else:
        eventually(lambda: look_at(driver, "a1").exit_code is not None, what="its end")
        print(*log_of(driver, "a1"), sep="\\n")
    driver.stop("a1", grace_s=0)
    print("left", kit.leftovers("a1"))
"""


def without_namespaces(kit: ProcessKit, *command: str) -> list[str]:
    """Launch from a root that may not mount, as in a container."""
    done = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", sys.executable, "-c",
         textwrap.dedent(WITHOUT_NAMESPACES), kit.data, kit.lab_python, *command],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    return done.stdout.splitlines()


@as_root
def test_without_namespaces_file_modes_protect_the_data_folder(here: ProcessKit) -> None:
    (here.data / "secret_key").write_text("the-secret")
    (here.data / "secret_key").chmod(0o644)
    script = f"cat {here.data}/secret_key; ls {here.data} {here.data}/logs; echo > ~/note && id -u"
    lines = without_namespaces(here, "/bin/sh", "-c", script)
    assert "the-secret" not in lines
    assert [line for line in lines if "denied" not in line] == ["20000", "left []"]


@as_root
def test_without_namespaces_a_closed_interpreter_is_refused_in_words(here: ProcessKit) -> None:
    closed = here.data / "closed"
    closed.mkdir(mode=0o700)
    (closed / "python").symlink_to(sys.executable)
    here.lab_python = closed / "python"
    refusal, left = without_namespaces(here, "python3", "-c", "pass")
    assert refusal.startswith("refused unreachable The workspace's user may not run")
    assert left == "left []"


# -- what cannot start ------------------------------------------------------------------------------------------------
def refusal_of(kit: ProcessKit, **changes: Any) -> LaunchRefused:
    driver = kit.driver()
    with pytest.raises(LaunchRefused) as caught:
        driver.launch(replace(kit.spec("a1", Program.SERVE), **changes), progress=no_progress)
    assert kit.leftovers("a1") == []
    assert list(driver.observe()) == []
    return caught.value


def test_a_missing_jupyterlab_names_the_command_that_installs_it(here: ProcessKit) -> None:
    here.lab_python = here.data / "no" / "python"
    refusal = refusal_of(here)
    assert refusal.code == "lab-missing"
    assert "make lab" in refusal.message


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"command": ()}, "no-command"),
        ({"allocation": "../a1"}, "bad-name"),
        ({"mounts": (Mount("../../etc", "/home/berth"),)}, "volume-name"),
        ({"mounts": (Mount("shared", "/data"),)}, "mount-refused"),
        ({"devices": (Device("GPU-gone"),)}, "gpu-missing"),
        ({"env": (("BAD", "a\0b"),)}, "start-failed"),
    ],
)
def test_each_impossible_wish_is_refused_with_its_own_reason(
    here: ProcessKit, changes: dict[str, Any], code: str
) -> None:
    assert refusal_of(here, **changes).code == code


@as_root
def test_a_full_disk_refuses_the_launch_and_leaves_nothing(here: ProcessKit) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", here.data], check=True)
    try:
        refusal = refusal_of(here)
        assert refusal.code == "no-disk"
        assert "full" in refusal.message
    finally:
        subprocess.run(["umount", here.data], check=True)


def test_a_port_that_was_lost_to_somebody_else_is_named_as_the_reason(here: ProcessKit) -> None:
    driver = here.driver()
    twice = (
        "import os, socket; where = ('127.0.0.1', int(os.environ['BERTH_PORT'])); first = socket.socket();"
        " first.bind(where); first.listen(); socket.socket().bind(where)"
    )
    driver.launch(here.spec("a1", Program.SLEEP, command=("python3", "-c", twice)), progress=no_progress)
    seen = eventually(lambda: (o := look_at(driver, "a1")) and o.phase is Phase.EXITED and o, what="its exit")
    assert (seen.code, seen.exit_code) == ("port-taken", 1)
    assert "start it again" in seen.message


# -- found again ------------------------------------------------------------------------------------------------------
LAUNCH_AND_DIE = """
    import os, signal, sys
    from pathlib import Path
    from tests.contract.kit import Program, no_progress
    from tests.contract.process_kit import ProcessKit

    kit = ProcessKit(Path(sys.argv[1]))
    kit._seconds = int(sys.argv[2])
    kit.driver().launch(kit.spec("a1", Program.DAEMON), progress=no_progress)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_9_of_the_portal_a_new_driver_finds_and_stops_everything(here: ProcessKit) -> None:
    died = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LAUNCH_AND_DIE), here.data, str(here._seconds)],
        env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL
    driver = here.driver()
    seen = look_at(driver, "a1")
    assert seen
    assert seen.phase is Phase.STARTING
    assert seen.address
    eventually(lambda: "ready" in log_of(driver, "a1"), what="its daemon being started")
    assert len(processes_with(here.marker("a1"))) >= 2
    driver.stop("a1", grace_s=1)
    assert here.leftovers("a1") == []


def test_processes_whose_files_were_lost_are_still_found_and_stopped(here: ProcessKit) -> None:
    driver = here.driver()
    driver.launch(here.spec("a1", Program.SLEEP), progress=no_progress)
    subprocess.run(["rm", "-rf", here.data / "process" / "a1"], check=True)
    seen = look_at(driver, "a1")
    assert seen
    assert (seen.phase, seen.address) == (Phase.STARTING, None)
    driver.stop("a1", grace_s=2)
    assert here.leftovers("a1") == []


@pytest.mark.parametrize("which", ["here", "ordinary"])
def test_a_supervisor_killed_from_outside_is_an_exit_and_its_stop_leaves_nothing(
    which: str, request: pytest.FixtureRequest
) -> None:
    kit: ProcessKit = request.getfixturevalue(which)
    driver = kit.driver()
    driver.launch(kit.spec("a1", Program.SLEEP), progress=no_progress)
    for found in tree.processes_of(kit.site)["a1"]:
        tree.send(found, signal.SIGKILL)  # which may take the next one along
    seen = eventually(lambda: (o := look_at(driver, "a1")) and o.phase is Phase.EXITED and o, what="its exit")
    assert seen.code == "killed"
    driver.stop("a1", grace_s=1)
    assert kit.leftovers("a1") == []


def test_whoever_has_the_old_pid_now_is_left_alone(here: ProcessKit) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        state = here.data / "process" / "a1"
        driver = here.driver()
        state.mkdir()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        (state / "supervisor").write_text(f"{bystander.pid} 1 {boot} 4711\n")
        seen = look_at(driver, "a1")
        assert seen
        assert (seen.phase, seen.code) == (Phase.EXITED, "killed")
        driver.stop("a1", grace_s=0)
        tree.send(tree.Process(pid=bystander.pid, parent=1, started=1), signal.SIGKILL)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_processes_of_another_installation_are_left_alone(here: ProcessKit, ordinary: ProcessKit) -> None:
    ours, theirs = here.driver(), ordinary.driver()
    for kit, driver in ((here, ours), (ordinary, theirs)):
        driver.launch(kit.spec("a1", Program.SLEEP), progress=no_progress)
    ours.stop("a1", grace_s=2)
    assert look_at(theirs, "a1")


def test_after_a_restart_of_the_machine_its_exit_says_so(here: ProcessKit) -> None:
    driver = here.driver()
    (here.data / "process" / "a1").mkdir()
    (here.data / "process" / "a1" / "supervisor").write_text(f"{os.getpid()} 1 another-boot 4711\n")
    seen = look_at(driver, "a1")
    assert seen
    assert (seen.phase, seen.code) == (Phase.EXITED, "machine-restarted")


def test_a_data_folder_that_cannot_be_read_is_not_an_empty_one(here: ProcessKit) -> None:
    driver = here.driver()
    (here.data / "process").rename(here.data / "elsewhere")
    with pytest.raises(NodeUnreachable):
        driver.observe()
    (here.data / "elsewhere").rename(here.data / "process")


# -- the rest ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("which", ["here", "ordinary"])
def test_what_its_program_leaves_running_ends_with_it(which: str, request: pytest.FixtureRequest) -> None:
    kit: ProcessKit = request.getfixturevalue(which)
    shell(kit, f"setsid env -i sleep {kit.marker('a1')} & echo started")
    assert processes_with(kit.marker("a1")) == []


def test_a_log_has_a_limit_and_keeps_its_end(here: ProcessKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOG_LIMIT", 256 * 1024)
    write = "import sys\nfor n in range(100000): print('line', n)"
    lines = said(here, "python3", "-c", write)
    assert lines[-1] == "line 99999"
    assert sum(path.stat().st_size for path in (here.data / "logs").iterdir()) <= 256 * 1024


def test_a_file_closed_by_its_owner_does_not_keep_a_stop_from_removing_it(ordinary: ProcessKit) -> None:
    driver = ordinary.driver()
    shell(ordinary, 'mkdir -p "$TMPDIR/a/b" && chmod 0 "$TMPDIR/a/b" "$TMPDIR/a"')
    driver.stop("a1", grace_s=0)
    assert ordinary.leftovers("a1") == []


def test_the_notes_say_that_nothing_is_isolated_and_what_an_ordinary_user_risks(
    here: ProcessKit, ordinary: ProcessKit
) -> None:
    assert "not isolated" in here.driver().inventory().notes[0]
    assert any("Berth's own keys and database" in note for note in ordinary.driver().inventory().notes)
    if os.geteuid() == 0:
        assert not any("Berth's own keys" in note for note in here.driver().inventory().notes)


def test_twenty_workspaces_at_once_get_a_port_each(here: ProcessKit) -> None:
    driver = here.driver()
    for number in range(20):
        driver.launch(here.spec(f"a{number}", Program.SLEEP), progress=no_progress)
    ports = {seen.address and seen.address[1] for seen in driver.observe()}
    assert len(ports) == 20
    for number in range(20):
        driver.stop(f"a{number}", grace_s=5)
    assert list(driver.observe()) == []
