"""The engine stops, is killed or hangs in the middle: the node is unreachable for that time, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduling.nodes.driver import DriverError, NodeUnreachable, Phase
from scheduling.nodes.engine.answers import engine_answers
from tests.docker_engine import DockerNode, PrivateEngine, make_tiny_image, private_engine, tiny_root
from tests.registry import serving
from tests.services import wait_for

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def mortal() -> Iterator[PrivateEngine]:
    """An engine that the tests here may stop and start."""
    with private_engine() as engine:
        make_tiny_image(engine.client())
        yield engine


@pytest.fixture
def node(mortal: PrivateEngine, tmp_path: Path) -> Iterator[DockerNode]:
    made = DockerNode(mortal, tmp_path / "data")
    yield made
    made.clear()


def test_while_the_engine_is_away_every_verb_says_so_and_afterwards_all_is_as_it_was_left(
    node: DockerNode, mortal: PrivateEngine
):
    node.run("a1")
    mortal.stop()
    try:
        for verb in (
            node.driver.observe,
            node.driver.inventory,
            lambda: node.driver.stop("a1", grace_s=0),
            lambda: list(node.driver.logs("a1", tail=1)),
            lambda: node.run("a2"),
            node.restarted().observe,
        ):
            with pytest.raises(NodeUnreachable, match="does not answer"):
                verb()
        assert "No Docker Engine answers" in (engine_answers(mortal.url) or "")
    finally:
        mortal.start()
    assert engine_answers(mortal.url) is None
    [seen] = node.driver.observe()
    assert (seen.allocation, seen.phase, seen.code) == ("a1", Phase.EXITED, "engine-restarted")
    node.driver.stop("a1", grace_s=0)
    assert node.leftovers() == []


def test_what_dies_with_its_engine_says_so_and_what_is_killed_later_does_not(node: DockerNode, mortal: PrivateEngine):
    node.run("a1", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    mortal.stop(signal.SIGKILL)
    mortal.start()
    seen = node.until_exited("a1")
    assert (seen.exit_code, seen.code) == (0, "engine-restarted")
    node.driver.stop("a1", grace_s=0)
    node.run("a1")
    os.kill(node.inspect("a1")["State"]["Pid"], signal.SIGKILL)
    assert node.until_exited("a1").code == "killed"


def test_an_engine_that_is_killed_in_the_middle_of_a_pull_leaves_nothing(node: DockerNode, mortal: PrivateEngine):
    failures: list[BaseException] = []

    def launch(image: str) -> None:
        try:
            node.run("a1", image=image)
        except DriverError as error:
            failures.append(error)

    with serving([tiny_root()]) as registry:
        registry.hold.clear()
        thread = threading.Thread(target=launch, args=(registry.name,))
        thread.start()
        try:
            assert registry.waiting.wait(20)
            mortal.stop(signal.SIGKILL)
        finally:
            registry.hold.set()
            thread.join(timeout=30)
            mortal.start()
    assert [type(failure) for failure in failures] == [NodeUnreachable]
    assert node.driver.observe() == []
    node.run("a1")
    assert node.address("a1")


def test_an_engine_that_hangs_is_unreachable_and_not_empty(
    node: DockerNode, mortal: PrivateEngine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("scheduling.nodes.engine.client._PATIENCE_S", 1)
    impatient = node.restarted()
    node.run("a1")
    assert impatient.observe()
    with mortal.paused():
        with pytest.raises(NodeUnreachable, match="does not answer"):
            impatient.observe()
        assert engine_answers(mortal.url, timeout=0.5) is not None
    assert [seen.allocation for seen in impatient.observe()] == ["a1"]


LAUNCHER = """
import sys
from pathlib import Path
from scheduling.nodes.docker import DockerDriver
from scheduling.nodes.driver import ContainerSpec
from scheduling.nodes.gpus import SimulatedGpus

url, data, site, image = sys.argv[1:]
driver = DockerDriver(base_url=url, data=Path(data), site=site, gpus=SimulatedGpus(1, site=site))
spec = ContainerSpec(allocation="a1", job="j", team="red", image=image, command=("sleep", "1000"), port=8888)
print("launching", flush=True)
driver.launch(spec, progress=lambda done, total: None)
print("launched", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.2, 0.4, 0.8])
def test_a_portal_killed_in_the_middle_of_a_launch_leaves_what_the_next_one_can_finish_or_remove(
    node: DockerNode, mortal: PrivateEngine, moment: float
):
    argv = [sys.executable, "-c", LAUNCHER, mortal.url, str(node.data), node.site, "tiny:latest"]
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"launching\n"
    threading.Event().wait(moment)
    process.kill()
    process.communicate()
    assert len(node.leftovers()) <= 1
    node.run("a1", mounts=())
    wait_for(lambda: node.see("a1") and node.address("a1"), seconds=10, what="the container")
    assert len(node.leftovers()) == 1
    node.driver.stop("a1", grace_s=0)
    assert node.leftovers() == []


def test_a_portal_killed_in_the_middle_of_a_pull_leaves_nothing_to_be_seen(node: DockerNode, mortal: PrivateEngine):
    with serving([tiny_root()]) as registry:
        registry.hold.clear()
        argv = [sys.executable, "-c", LAUNCHER, mortal.url, str(node.data), node.site, registry.name]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."})
        try:
            assert registry.waiting.wait(20)
        finally:
            process.kill()
            process.communicate()
        assert node.driver.observe() == []
        registry.hold.set()
