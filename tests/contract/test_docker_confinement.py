"""What a container is and has, seen from inside it: its user, its limits, its devices, and nothing of the host."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduling.nodes.driver import Device, LaunchRefused, Mount
from tests.docker_engine import DockerNode, PrivateEngine, make_tiny_image, private_engine

pytestmark = pytest.mark.docker

CARDS = ("GPU-3d1e4f2a-0000-4000-8000-000000000001", "MIG-3d1e4f2a-0000-4000-8000-000000000002")


def test_it_runs_as_the_given_user_and_group_whatever_the_image_says(docker_node: DockerNode):
    make_tiny_image(docker_node.client, "rooted:latest", user="root")
    docker_node.run("a1", image="rooted:latest", uid=20007, gid=20050, mounts=())
    assert docker_node.inside(
        "a1", "id -u; id -g; id -G; id -un; echo $HOME $USER; awk -F: '$3==20007' /etc/passwd"
    ) == (
        0,
        "20007\n20050\n20050\nalice\n/home/alice alice\nalice:x:20007:20050:alice:/home/alice:/bin/sh\n",
    )


def test_the_home_is_the_volume_with_the_right_owner_and_nothing_else_of_the_host_is_there(docker_node: DockerNode):
    docker_node.run("a1", uid=20007, gid=20050)
    assert docker_node.inside("a1", "cd; pwd; touch mine; stat -c '%u %g %a' .") == (
        0,
        "/home/alice\n20007 20050 700\n",
    )
    assert (docker_node.data / "volumes/home-alice/mine").stat().st_uid == 20007
    binds = {mount["Destination"]: mount["RW"] for mount in docker_node.inspect("a1")["Mounts"]}
    assert binds == {"/home/alice": True, "/etc/passwd": False, "/etc/group": False}
    assert docker_node.inside("a1", "echo evil:x:0:0::/: >> /etc/passwd")[0] != 0


def test_a_read_only_volume_cannot_be_written(docker_node: DockerNode):
    docker_node.run("a1", mounts=(Mount("home-alice", "/home/alice"), Mount("shared", "/data", read_only=True)))
    assert docker_node.inside("a1", "touch /data/x")[0] != 0


def test_it_has_no_capabilities_and_can_gain_none(docker_node: DockerNode):
    docker_node.run("a1")
    _, status = docker_node.inside("a1", "cat /proc/self/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {name: int(facts[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0
    )
    assert facts["NoNewPrivs"] == "1"
    assert facts["Seccomp"] == "2"
    for deed in ("chown 0 /tmp", "ping -c 1 127.0.0.1", "mount -t tmpfs x /mnt", "ip link set lo down"):
        assert docker_node.inside("a1", deed)[0] != 0, deed


def test_limits_are_the_ones_asked_for(docker_node: DockerNode):
    docker_node.run("a1", memory_mib=48, cpu_millis=500, pids=50, shm_mib=8)
    host = docker_node.inspect("a1")["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (48 * 2**20, 48 * 2**20)
    assert (host["NanoCpus"], host["PidsLimit"], host["ShmSize"], host["Init"]) == (500_000_000, 50, 8 * 2**20, True)
    assert docker_node.inside("a1", "df -k /dev/shm | awk 'END {print $2}'") == (0, "8192\n")
    assert 1024 <= int(docker_node.inside("a1", "ulimit -Hn")[1]) <= 65_536
    code, output = docker_node.inside("a1", "for i in $(seq 100); do sleep 5 & done; echo never; wait")
    assert "can't fork" in output


def test_a_container_without_a_gpu_is_given_none_even_if_its_image_asks_for_all(docker_node: DockerNode):
    docker_node.run("a1", env=(("NVIDIA_VISIBLE_DEVICES", "all"), ("GREETING", "hello")))
    environment = variables(docker_node, "a1")
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert environment["GREETING"] == "hello"
    assert "BERTH_SIMULATED_GPUS" not in environment
    assert docker_node.inspect("a1")["HostConfig"]["DeviceRequests"] in (None, [])


def test_simulated_gpus_are_a_variable_and_nothing_else(docker_node: DockerNode):
    docker_node.run("a1", devices=(Device("SIM-1", simulated=True), Device("SIM-2", simulated=True)))
    environment = variables(docker_node, "a1")
    assert environment["BERTH_SIMULATED_GPUS"] == "SIM-1,SIM-2"
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert docker_node.inspect("a1")["HostConfig"]["DeviceRequests"] in (None, [])


def test_what_only_the_node_may_say_cannot_be_overruled_by_the_job(docker_node: DockerNode):
    docker_node.run("a1", env=(("BERTH_ALLOCATION", "a2"), ("HOME", "/root"), ("BERTH_SIMULATED_GPUS", "SIM-9")))
    environment = variables(docker_node, "a1")
    assert environment["BERTH_ALLOCATION"] == "a1"
    assert environment["HOME"] == "/home/alice"
    assert environment["BERTH_PORT"] == "8888"
    assert environment["BERTH_JOB"] == "job-a1"


@pytest.fixture(scope="module")
def gpu_engine() -> Iterator[PrivateEngine]:
    """An engine that takes GPU requests; a stub stands where NVIDIA's hook would be."""
    with private_engine(with_gpu_hook=True) as engine:
        make_tiny_image(engine.client())
        yield engine


def test_cards_are_handed_over_by_uuid_and_never_by_count(gpu_engine: PrivateEngine, tmp_path: Path):
    node = DockerNode(gpu_engine, tmp_path)
    try:
        for number, card in enumerate(CARDS):
            node.run(f"a{number}", devices=(Device(card),), mounts=())
        node.run("both", devices=tuple(Device(card) for card in CARDS), mounts=())
        assert [variables(node, f"a{number}")["NVIDIA_VISIBLE_DEVICES"] for number in (0, 1)] == list(CARDS)
        assert variables(node, "both")["NVIDIA_VISIBLE_DEVICES"] == ",".join(CARDS)
        for allocation in ("a0", "a1", "both"):
            [request] = node.inspect(allocation)["HostConfig"]["DeviceRequests"]
            assert request["Count"] == 0
            assert set(request["DeviceIDs"]) <= set(CARDS)
    finally:
        node.clear()


def test_an_engine_that_cannot_hand_over_gpus_refuses_with_what_to_install(docker_node: DockerNode):
    with pytest.raises(LaunchRefused, match="nvidia-container-toolkit") as refusal:
        docker_node.run("a1", devices=(Device(CARDS[0]),))
    assert refusal.value.code == "gpu-runtime-missing"
    assert docker_node.leftovers() == []


def variables(node: DockerNode, allocation: str) -> dict[str, str]:
    _, output = node.inside(allocation, "env")
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
