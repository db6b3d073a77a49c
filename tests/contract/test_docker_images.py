"""Images: pulled only when missing, with bytes counted, given up when asked, refused in a sentence."""

import io
import secrets
import tarfile
import threading
from collections.abc import Iterator

import pytest

from scheduling.nodes.driver import LaunchRefused, Phase
from tests.docker_engine import TINY, DockerNode, tiny_root
from tests.registry import Registry, serving
from tests.services import wait_for

pytestmark = pytest.mark.docker


@pytest.fixture
def registry() -> Iterator[Registry]:
    """The tiny image with another 4 MiB layer of noise on top."""
    with serving([tiny_root(), noise(4 * 2**20)]) as started:
        yield started


def test_a_missing_image_is_pulled_and_its_bytes_are_counted_up_to_the_last(
    docker_node: DockerNode, registry: Registry
):
    told: list[tuple[int, int]] = []
    spec = docker_node.spec("a1", image=registry.name)
    docker_node.driver.launch(spec, progress=lambda done, total: told.append((done, total)))
    assert docker_node.address("a1")
    size = sum(len(layer) for layer in registry.layers)
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert registry.name in docker_node.driver.inventory().images


def test_an_image_that_is_there_is_not_asked_for_again(docker_node: DockerNode, registry: Registry):
    docker_node.run("a1", image=registry.name)
    registry.missing.update(registry.blobs)
    told: list[tuple[int, int]] = []
    spec = docker_node.spec("a2", image=registry.name)
    docker_node.driver.launch(spec, progress=lambda done, total: told.append((done, total)))
    assert told == []


def test_a_pull_is_seen_with_its_progress_and_a_stop_gives_it_up_at_once(docker_node: DockerNode, registry: Registry):
    registry.hold.clear()
    refusals: list[LaunchRefused] = []
    thread = threading.Thread(target=launch, args=(docker_node, registry.name, refusals))
    thread.start()
    try:
        wait_for(lambda: (docker_node.see("a1") or None) and docker_node.see("a1").progress not in (None, (0, 0)),
                 seconds=20, what="progress of the pull")  # fmt: skip
        seen = docker_node.see("a1")
        assert seen is not None
        assert seen.phase == Phase.PULLING
        assert seen.progress is not None
        assert seen.progress[0] < seen.progress[1]
        docker_node.driver.stop("a1", grace_s=0)
        assert docker_node.see("a1") is None
        assert not registry.hold.is_set(), "the registry still stands still: nobody waited for it"
    finally:
        registry.hold.set()
        thread.join(timeout=30)
    assert [refusal.code for refusal in refusals] == ["abandoned"]
    assert docker_node.leftovers() == []


def test_a_local_image_is_never_asked_of_a_registry(docker_node: DockerNode):
    with pytest.raises(LaunchRefused, match="`make image`") as refusal:
        docker_node.run("a1", image="berth/nowhere:latest")
    assert refusal.value.code == "image-missing"


def test_an_image_that_its_registry_does_not_know_is_refused(docker_node: DockerNode, registry: Registry):
    with pytest.raises(LaunchRefused, match="check the name and the tag") as refusal:
        docker_node.run("a1", image=registry.name.replace(":v1", ":v2"))
    assert refusal.value.code == "image-missing"
    assert docker_node.leftovers() == []


def test_a_layer_that_is_lost_ends_the_launch(docker_node: DockerNode, registry: Registry):
    registry.missing.update(digest for digest, blob in registry.blobs.items() if blob == registry.layers[1])
    with pytest.raises(LaunchRefused) as refusal:
        docker_node.run("a1", image=registry.name)
    assert refusal.value.code == "image-missing"
    assert docker_node.leftovers() == []


def test_a_registry_that_does_not_answer_is_named(docker_node: DockerNode):
    with pytest.raises(LaunchRefused, match="its registry does not answer") as refusal:
        docker_node.run("a1", image="127.0.0.1:1/team/image:v1")
    assert refusal.value.code == "image-missing"


@pytest.mark.parametrize("name", ["UPPER/case", "a b", "--privileged", "x:y:z", "tiny@sha256:short"])
def test_what_is_no_name_of_an_image_is_refused(docker_node: DockerNode, name: str):
    with pytest.raises(LaunchRefused) as refusal:
        docker_node.run("a1", image=name)
    assert refusal.value.code in ("image-name", "image-missing")
    assert docker_node.leftovers() == []


def test_the_images_own_command_runs_when_none_is_given(docker_node: DockerNode):
    docker_node.run("a1", image=TINY, command=())
    wait_for(
        lambda: list(docker_node.driver.logs("a1", tail=1)) == [b"tiny\n"], seconds=10, what="the image's own word"
    )


def launch(node: DockerNode, image: str, refusals: list[LaunchRefused]) -> None:
    try:
        node.run("a1", image=image)
    except LaunchRefused as refusal:
        refusals.append(refusal)


def noise(size: int) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("noise")
        entry.size = size
        tar.addfile(entry, io.BytesIO(secrets.token_bytes(size)))
    return archive.getvalue()
