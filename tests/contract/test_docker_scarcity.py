"""A node that runs out of something says so, leaves nothing behind, and goes on when there is some again."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduling.nodes.driver import LaunchRefused, Mount, Phase
from tests.contract.test_docker_images import noise
from tests.docker_engine import DockerNode, PrivateEngine, make_tiny_image, private_engine, tiny_root
from tests.registry import serving
from tests.services import wait_for

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def poor_engine() -> Iterator[PrivateEngine]:
    """24 MiB of disk, and address ranges for two networks of five containers each."""
    options = ("--default-address-pool", "base=10.213.77.0/28,size=29")
    with private_engine(disk_mib=24, options=options) as engine:
        make_tiny_image(engine.client())
        yield engine


@pytest.fixture
def poor_node(poor_engine: PrivateEngine, tmp_path: Path) -> Iterator[DockerNode]:
    node = DockerNode(poor_engine, tmp_path / "data")
    yield node
    node.clear()


def test_an_image_that_does_not_fit_on_the_disk_is_refused(poor_node: DockerNode):
    with serving([tiny_root(), noise(32 * 2**20)]) as registry:
        with pytest.raises(LaunchRefused, match="disk is full") as refusal:
            poor_node.run("a1", image=registry.name)
    assert refusal.value.code == "no-disk"
    assert poor_node.leftovers() == []
    poor_node.run("a1")
    assert poor_node.address("a1")


@pytest.fixture
def small_volumes(docker_node: DockerNode) -> Iterator[Path]:
    """Volumes on a disk of 40 MiB."""
    volumes = docker_node.data / "volumes"
    volumes.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", volumes], check=True)
    yield volumes
    docker_node.clear()
    subprocess.run(["umount", volumes], check=True)


def test_a_workspace_that_fills_the_disk_ends_with_that_reason_and_the_next_is_refused(
    docker_node: DockerNode, small_volumes: Path
):
    docker_node.run("a1", "cd; dd if=/dev/zero of=big bs=1M || exit 1")
    assert docker_node.until_exited("a1").code == "no-disk"
    docker_node.driver.stop("a1", grace_s=0)
    with pytest.raises(LaunchRefused, match="disk is full") as refusal:
        docker_node.run("a2", mounts=(Mount("home-bob", "/home/alice"),))
    assert refusal.value.code == "no-disk"
    assert [path.name for path in small_volumes.iterdir()] == ["home-alice"]


def test_address_ranges_of_teams_that_run_nothing_are_given_to_others(poor_node: DockerNode):
    for team in ("red", "blue", "green", "gold"):
        poor_node.run(team, team=team, mounts=())
        poor_node.driver.stop(team, grace_s=0)
    poor_node.run("a1", team="red", mounts=())
    poor_node.run("a2", team="blue", mounts=())
    with pytest.raises(LaunchRefused, match="no address range left") as refusal:
        poor_node.run("a3", team="green", mounts=())
    assert refusal.value.code == "no-address"
    poor_node.driver.stop("a1", grace_s=0)
    poor_node.run("a3", team="green", mounts=())
    assert poor_node.address("a3")


def test_a_network_without_a_free_address_refuses_the_next_container(poor_node: DockerNode):
    for number in range(5):
        poor_node.run(f"a{number}", mounts=())
    with pytest.raises(LaunchRefused, match="no address left") as refusal:
        poor_node.run("a5", mounts=())
    assert refusal.value.code == "no-address"
    assert {seen.allocation for seen in poor_node.driver.observe()} == {f"a{number}" for number in range(5)}


def test_ended_containers_hold_no_address(poor_node: DockerNode):
    for number in range(5):
        poor_node.run(f"a{number}", "exit 0", mounts=())
    wait_for(
        lambda: all(seen.phase == Phase.EXITED for seen in poor_node.driver.observe()), seconds=20, what="all ends"
    )
    poor_node.run("a5", mounts=())
    assert poor_node.address("a5")
