"""What the Docker driver says and asks for, without an engine: endings, refusals, names, devices."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduling.nodes.driver import Device
from scheduling.nodes.engine.devices import cdi_devices, requests_for, runtime_note, visible_env
from scheduling.nodes.engine.endings import clean, ending, remedy, start_refusal
from scheduling.nodes.engine.images import _Bytes, _name_and_tag
from scheduling.nodes.engine.names import Names, is_plain

CARD = "GPU-3d1e4f2a-0000-4000-8000-000000000001"
YAML = f"""---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
- name: {CARD}
- name: all
"""


def end(exit_code: int, log: str = "", **state: Any) -> tuple[str, str]:
    seen = ending("a1", {"ExitCode": exit_code, **state}, image="i:1", memory_bytes=64 * 2**20, log=log.encode())
    return seen.code, seen.message


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (end(0), "exited"),
        (end(3, "Traceback …"), "exited"),
        (end(137, OOMKilled=True), "oom-killed"),
        (end(0, OOMKilled=True), "exited"),
        (end(137), "killed"),
        (end(1, "OSError: [Errno 28] No space left on device"), "no-disk"),
        (end(1, "PermissionError: [Errno 13] Permission denied: '/opt/app/cache'"), "image-needs-root"),
        (end(1, "this image must be run as root"), "image-needs-root"),
        (end(127, "[FATAL tini (7)] exec jupyter failed: No such file or directory"), "command-missing"),
        (end(126, "[FATAL tini (7)] exec /root/x failed: Permission denied"), "image-needs-root"),
        (end(0, "warning: permission denied"), "exited"),
    ],
)
def test_every_ending_has_a_stable_cause_and_a_sentence(given: tuple[str, str], code: str):
    assert given[0] == code
    assert given[1]


@pytest.mark.parametrize("exit_code", [0, 1, 137, 143, 255])
def test_what_ended_with_its_engine_says_so_whatever_its_exit_code(exit_code: int):
    began = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
    state = {"ExitCode": exit_code, "StartedAt": "2026-11-23T08:00:00.123456789Z"}

    def told(state: dict[str, Any], *, seconds: int) -> str:
        since = began + timedelta(seconds=seconds)
        return ending("a1", state, image="i:1", memory_bytes=0, log=b"", engine_started_at=since).code

    assert told(state, seconds=60) == "engine-restarted"
    assert told(state, seconds=-60) in ("exited", "killed")
    assert told({**state, "StartedAt": "0001-01-01T00:00:00Z"}, seconds=60) in ("exited", "killed")
    if exit_code:
        assert told({**state, "OOMKilled": True}, seconds=60) == "oom-killed"


@pytest.mark.parametrize("exit_code", [137, 143, 255])
def test_where_the_engines_age_is_unknown_the_sentence_allows_for_its_restart(exit_code: int):
    assert "for instance" in end(exit_code)[1] or "as when" in end(exit_code)[1]
    assert "Docker Engine or the machine was restarted" in end(exit_code)[1]


def test_the_remedy_names_the_folder_that_was_denied():
    log = "reading /etc/hosts\nPermissionError: [Errno 13] Permission denied: '/opt/app/cache'\nbye from /usr/bin/x"
    assert remedy("team/app:1", log) == "FROM team/app:1\nRUN chmod -R a+rwX /opt/app/cache"
    assert remedy("i", "Permission denied: /root/.cache/pip") == "FROM i\nRUN chmod -R a+rwX /root"
    assert remedy("i", "must be root") == "FROM i\nRUN chmod -R a+rwX /root /opt /srv"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', "gpu-runtime-missing"),
        ('could not select device driver "cdi" with capabilities: []', "gpu-runtime-missing"),
        ("nvidia-container-cli: device error: GPU-1: unknown device", "gpu-refused"),
        ("write /data: no space left on device", "no-disk"),
        ("driver failed programming external connectivity: address already in use", "port-taken"),
        ("no available IPv4 addresses on this network's address pools: berth-x", "no-address"),
        ("something new", "start-refused"),
    ],
)
def test_what_the_engine_says_at_the_start_becomes_a_cause(words: str, code: str):
    assert start_refusal(words, image="i:1", command="jupyter").code == code


def test_a_log_is_cleaned_of_colours_progress_bars_and_control_characters():
    assert (
        clean(b"\x1b[1;31mred\x1b[0m\r\n10%\r50%\r100%\r\n\x1b]0;title\x07x\x00y\x85\xff\n")
        == "red\n100%\nxy\ufffd\ufffd"
    )


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("python", ("python", "latest")),
        ("quay.io/jupyter/base-notebook:2026-11", ("quay.io/jupyter/base-notebook", "2026-11")),
        ("host:5000/a/b", ("host:5000/a/b", "latest")),
        ("a@sha256:12", ("a", "sha256:12")),
        ("a:1@sha256:12", ("a:1", "sha256:12")),
    ],
)
def test_an_image_name_is_split_so_that_never_all_tags_are_pulled(image: str, parts: tuple[str, str]):
    assert _name_and_tag(image) == parts


def test_bytes_are_summed_over_layers_and_never_fall():
    counted = _Bytes()
    seen = []
    for layer, status, current, total in [
        ("a", "Downloading", 10, 100),
        ("b", "Downloading", 5, 50),
        ("a", "Download complete", 0, 0),
        ("a", "Extracting", 3, 100),
        ("b", "Verifying Checksum", 0, 0),
        ("b", "Pull complete", 0, 0),
        ("c", "Already exists", 0, 0),
    ]:
        counted.add({"id": layer, "status": status, "progressDetail": {"current": current, "total": total}})
        seen.append(counted.sums())
    assert seen == [(10, 100), (15, 150), (105, 150), (105, 150), (105, 150), (150, 150), (150, 150)]


def test_interface_names_fit_and_differ_by_site_team_and_way_out():
    names = [
        Names(site).bridge(team, egress) for site in "xy" for team in ("red", "blue") for egress in ("none", "open")
    ]
    assert len(set(names)) == len(names)
    assert {len(name) for name in names} == {15}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "a b", "a\n", "ä", "x" * 64])
def test_odd_names_are_not_plain(name: str):
    assert not is_plain(name)


def test_cdi_is_used_only_for_devices_that_the_engine_knows(tmp_path: Path):
    (tmp_path / "nvidia.yaml").write_text(YAML)
    engine = {"CDISpecDirs": [str(tmp_path)]}
    [known] = requests_for([Device(CARD)], engine)
    assert (known["Driver"], known["DeviceIDs"]) == ("cdi", [f"nvidia.com/gpu={CARD}"])
    assert visible_env([Device(CARD)], engine) == {"NVIDIA_VISIBLE_DEVICES": "void"}
    [unknown] = requests_for([Device("GPU-other")], engine)
    assert (unknown["Driver"], unknown["DeviceIDs"], unknown["Capabilities"]) == ("", ["GPU-other"], [["gpu"]])
    assert visible_env([Device("GPU-other")], engine) == {"NVIDIA_VISIBLE_DEVICES": "GPU-other"}
    assert unknown["Count"] == 0


def test_cdi_devices_are_read_from_the_engines_own_list_from_yaml_and_from_json(tmp_path: Path):
    listed = {"CDISpecDirs": ["/etc/cdi"], "DiscoveredDevices": [{"Source": "cdi", "ID": f"nvidia.com/gpu={CARD}"}]}
    assert cdi_devices(listed) == {f"nvidia.com/gpu={CARD}"}
    (tmp_path / "a.json").write_text(json.dumps({"kind": "nvidia.com/gpu", "devices": [{"name": "0"}]}))
    (tmp_path / "broken.json").write_text("{")
    assert cdi_devices({"CDISpecDirs": [str(tmp_path)]}) == {"nvidia.com/gpu=0"}
    assert cdi_devices({}) == frozenset()


def test_an_engine_without_any_way_to_hand_over_gpus_is_noted():
    assert "nvidia-container-toolkit" in (runtime_note({"Runtimes": {"runc": {}}}) or "")
    assert runtime_note({"Runtimes": {"nvidia": {}}}) is None
