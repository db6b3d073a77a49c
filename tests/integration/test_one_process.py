"""`manage.py up`: starts whole or says why not, keeps its data, stops clean, and survives kill -9."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal import claims
from tests.portal_api import PortalApi
from tests.portal_process import ROOT, Portal, running_portal
from tests.services import free_port, wait_for


@pytest.fixture(scope="module")
def up() -> Iterator[Portal]:
    with running_portal(driver="process", BERTH_SIMULATED_GPUS="2") as portal:
        yield portal


def refused(portal: Portal, **changed: str) -> str:
    """What a start says that must not succeed."""
    done = subprocess.run(
        [sys.executable, "manage.py", "up"],
        cwd=ROOT, env={**portal.variables(), **changed}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=30,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def start_refused(data: Path, **changed: str) -> str:
    """The same without a running portal."""
    return refused(Portal(data=data, log=data / "log", environment={"BERTH_DRIVER": "process"}), **changed)


def test_healthz_answers_200_when_the_portal_says_it_is_ready(up: Portal) -> None:
    assert up.healthz() == 200


def test_a_second_portal_on_the_same_folder_is_refused_in_one_sentence(up: Portal) -> None:
    said = refused(up, BERTH_PORT=str(free_port()), BERTH_GATEWAY_PORT=str(free_port()))
    assert up.process is not None
    assert re.fullmatch(rf"berth: Another portal \(process {up.process.pid}\) is running on \S+; stop it .*\.", said)


@pytest.mark.parametrize("setting", ["BERTH_PORT", "BERTH_GATEWAY_PORT"])
def test_a_taken_port_names_its_holder_and_the_setting(up: Portal, setting: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        others = {"BERTH_PORT": str(free_port()), "BERTH_GATEWAY_PORT": str(free_port()), "BERTH_DATA": str(tmp_path)}
        said = refused(up, **{**others, setting: port})
    assert f"Port {port} is taken by" in said
    assert f"(process {os.getpid()})" in said
    assert f"set {setting} to a free port" in said


def test_a_misspelt_setting_stops_the_start_and_names_the_nearest(up: Portal) -> None:
    assert refused(up, BERTH_GATEWAY_PROT="9000") == (
        "berth: BERTH_GATEWAY_PROT is not a setting of Berth; did you mean BERTH_GATEWAY_PORT?"
    )


def test_equal_ports_are_refused(tmp_path: Path) -> None:
    port = str(free_port())
    assert start_refused(tmp_path, BERTH_PORT=port, BERTH_GATEWAY_PORT=port) == (
        f"berth: BERTH_PORT and BERTH_GATEWAY_PORT are both {port}; give each a port of its own."
    )


def test_a_claimed_port_is_ours_before_the_server_starts() -> None:
    port = free_port()
    with claims.claim_port("127.0.0.1", port, setting="BERTH_PORT"), pytest.raises(claims.NotOurs, match="is taken by"):
        claims.claim_port("127.0.0.1", port, setting="BERTH_GATEWAY_PORT")


def test_a_data_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = start_refused(tmp_path / "file")
    assert re.fullmatch(r"berth: .* data folder \S+/file \(.*\); .*set BERTH_DATA to another folder\.", said)


def test_a_secret_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    key = tmp_path / "secret_key"
    key.mkdir()
    said = start_refused(tmp_path)
    assert re.fullmatch(r"berth: .*Is a directory: \S+/secret_key\); .*", said)
    key.rmdir()
    key.write_bytes(b"\xff\x00")
    assert start_refused(tmp_path).endswith(
        "secret_key is not a secret that Berth wrote; remove it, and a new one is made."
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("BERTH_DATABASE_URL", "mysql://root@localhost/berth"),
        ("BERTH_DATABASE_URL", "postgresql://localhost:port/berth"),
        ("BERTH_DATABASE_URL", "postgresql://localhost/berth?nonsense=1"),
        ("BERTH_REDIS_URL", "localhost:6379"),
        ("BERTH_PORTAL_URL", "berth.example"),
        ("BERTH_WORKSPACE_DOMAIN", "10.0.0.1"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_in_one_sentence(tmp_path: Path, setting: str, value: str) -> None:
    assert re.fullmatch(rf"berth: {setting} [^\n]*\.", start_refused(tmp_path, **{setting: value}))


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("BERTH_DATABASE_URL", "postgresql://me:secret@127.0.0.1:{port}/berth", "The database at 127.0.0.1 does not"),
        ("BERTH_REDIS_URL", "redis://:secret@127.0.0.1:{port}/0", "The Redis at 127.0.0.1:{port}/0 does not"),
    ],
)
def test_a_server_that_does_not_answer_is_named(tmp_path: Path, setting: str, value: str, sentence: str) -> None:
    port = free_port()
    said = start_refused(tmp_path, **{setting: value.format(port=port)})
    assert re.fullmatch(rf"berth: {sentence.format(port=port)} answer: [^\n]*; start it or unset {setting}\.", said)
    assert "secret" not in said


def test_a_database_file_that_cannot_be_used_stops_the_start_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "berth.sqlite3").write_bytes(b"this is no database" * 300)
    assert re.fullmatch(rf"berth: Cannot start on {tmp_path} \(.*\)\. [^\n]*\.", start_refused(tmp_path))


def test_idle_it_stays_far_below_250_mb(up: Portal) -> None:
    """Resident memory of the one process, workspaces apart. The target of the issue, asserted as a bound."""
    assert up.process is not None
    rollup = Path(f"/proc/{up.process.pid}/smaps_rollup").read_text()
    resident = int(re.search(r"^Rss:\s+(\d+) kB", rollup, re.MULTILINE)[1])  # type: ignore[index]
    print(f"idle: {resident / 1024:.0f} MiB resident")
    assert resident < 250_000


def test_secrets_and_the_database_are_for_the_portals_own_account_only(up: Portal) -> None:
    assert (up.data.stat().st_mode & 0o777) == 0o711
    private = [path for path in up.data.iterdir() if path.is_file()]
    assert {"secret_key", "berth.sqlite3"} <= {path.name for path in private}
    assert [path.name for path in private if path.stat().st_mode & 0o077] == []


def test_a_client_that_offers_http_2_is_served_with_its_body(up: Portal) -> None:
    """As Java's HttpClient and `curl --http2` do on every plain connection."""
    body = b'{"team": "nowhere", "image": "local-lab"}'
    lines = [
        f"POST /api/v1/workspaces HTTP/1.1\r\nHost: localhost:{up.port}",
        f"Authorization: Bearer {PortalApi(up).token}",
        f"Content-Type: application/json\r\nContent-Length: {len(body)}",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    ]
    with socket.create_connection(("127.0.0.1", up.port), timeout=10) as sock:
        sock.sendall("\r\n".join(lines).encode() + body)
        with sock.makefile("rb") as answer:  # head and body may come in packets of their own
            assert any(b"no-such-team" in line for line in answer)


def test_health_is_told_to_those_who_ask_for_the_head_alone(up: Portal) -> None:
    request = urllib.request.Request(f"{up.url}/healthz", method="HEAD")
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert (answer.status, answer.read()) == (200, b"")


def test_a_database_that_another_command_made_becomes_private_before_a_workspace_runs(tmp_path: Path) -> None:
    """Whoever asks for a token before the first start is told so; what he leaves is no file for everybody."""
    early = Portal(data=tmp_path / "data", log=tmp_path / "log", environment={"BERTH_DRIVER": "process"})
    done = subprocess.run(
        [sys.executable, "manage.py", "create_token", "admin"],
        cwd=ROOT, env=early.variables(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == "CommandError: There are no accounts yet: start the portal once with `make up`."
    (early.data / "berth.sqlite3").chmod(0o644)
    early.start()
    try:
        private = [path for path in early.data.iterdir() if path.is_file()]
        assert [path.name for path in private if path.stat().st_mode & 0o077] == []
    finally:
        early.stop()


def test_ctrl_c_ends_workspaces_with_their_reason_and_a_second_start_keeps_all_data() -> None:
    with running_portal(driver="process") as portal:
        first = PortalApi(portal)
        workspace = first.launch(image="local-lab")
        first.wait(workspace, "ready")
        portal.stop()  # asserts that no process is left

        portal.start()
        assert portal.output().count("password:") == 1, "the password is shown once"
        after = PortalApi(portal)
        assert after.token != first.token
        found = after.workspace(workspace)
        assert found["state"] == "stopped"
        assert "portal was stopped" in found["reason"].lower()
        assert first.workspace(workspace)["id"] == workspace, "the old token is still good"


def test_kill_9_in_the_middle_of_a_launch_leaves_nothing_that_the_next_start_does_not_settle() -> None:
    with running_portal(driver="process", BERTH_SIMULATED_GPUS="1") as portal:
        api = PortalApi(portal)
        workspace = api.launch(image="local-lab")
        api.wait(workspace, "starting", "ready")
        portal.kill()

        portal.start()
        settled = api.wait(workspace, "ready", "failed", "stopped")
        assert settled["state"] == "ready" or settled["reason"]
        api.call("POST", f"workspaces/{workspace}/stop")
        api.wait(workspace, "stopped", "failed")
        # The only GPU is free again: another workspace gets it.
        another = api.launch(image="local-lab")
        api.wait(another, "ready")


@pytest.mark.parametrize("library", ["/_socket.", "/_sqlite3.", "/uvloop/"])
def test_ctrl_c_while_it_is_still_loading_ends_it_without_a_traceback(tmp_path: Path, library: str) -> None:
    portal = Portal(data=tmp_path / "data", log=tmp_path / "log", environment={"BERTH_DRIVER": "process"})
    with portal.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "up"], cwd=ROOT, env=portal.variables(), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    loaded = Path(f"/proc/{process.pid}/maps")
    wait_for(lambda: library in loaded.read_text() or process.poll() is not None, seconds=30, what=f"{library} to load")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert portal.output() in ("", "Stopped before it was ready.\n")


def test_sigterm_stops_it_as_ctrl_c_does(tmp_path: Path) -> None:
    with running_portal(driver="process") as portal:
        assert portal.process is not None
        portal.process.send_signal(signal.SIGTERM)
        portal.stop()


@pytest.mark.parametrize(
    ("number", "whole_group"),
    [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGKILL, False)],
    ids=["Ctrl-C", "SIGINT to make alone", "SIGTERM to make alone", "SIGKILL to make alone"],
)
def test_however_make_up_is_ended_nothing_stays(tmp_path: Path, number: int, whole_group: bool) -> None:
    portal = Portal(data=tmp_path / "data", log=tmp_path / "log", environment={"BERTH_DRIVER": "process"})
    with portal.log.open("wb") as log:
        make = subprocess.Popen(
            ["make", "up"], cwd=ROOT, env=portal.variables(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(lambda: "Berth is ready" in portal.output(), seconds=60, what="make up")
        (os.killpg if whole_group else os.kill)(make.pid, number)
        make.wait(timeout=30)
        wait_for(lambda: portal.processes() == [], seconds=15, what="every process to end")
        assert "Stopped." in portal.output()
    finally:
        for process, _ in [(make.pid, ""), *portal.processes()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
