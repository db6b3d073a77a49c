"""One container's life on a real engine: started once, found again, ended with a reason, gone without a trace."""

import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from scheduling.nodes.driver import DriverError, LaunchRefused, Mount, Phase
from tests.docker_engine import TINY, DockerNode, make_tiny_image
from tests.services import wait_for

pytestmark = pytest.mark.docker


def test_a_launched_container_is_starting_at_an_address_that_this_host_can_dial(docker_node: DockerNode):
    docker_node.run("a1", "mkdir -p /tmp/www; echo hello > /tmp/www/index.html; exec httpd -f -p 8888 -h /tmp/www")
    seen = docker_node.see("a1")
    assert seen is not None
    assert seen.phase == Phase.STARTING
    assert seen.image_digest.startswith("sha256:")
    assert seen.address is not None
    assert seen.address[1] == 8888
    wait_for(lambda: fetch(seen.address) == "hello\n", seconds=10, what="the server's answer")


def test_launching_twice_or_from_eight_threads_makes_one_container(docker_node: DockerNode):
    spec = docker_node.spec("a1")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: docker_node.driver.launch(spec, progress=lambda done, total: None), range(8)))
    assert len(docker_node.leftovers()) == 1


def test_many_allocations_of_a_new_team_launch_at_once_on_one_network(docker_node: DockerNode):
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda number: docker_node.run(f"a{number}"), range(6)))
    assert {seen.phase for seen in docker_node.driver.observe()} == {Phase.STARTING}
    assert len(docker_node.client.networks(filters={"label": f"berth.site={docker_node.site}"})) == 1


def test_a_driver_that_was_just_restarted_finds_what_runs_and_stops_it(docker_node: DockerNode):
    docker_node.run("a1")
    again = docker_node.restarted()
    assert [seen.allocation for seen in again.observe()] == ["a1"]
    again.stop("a1", grace_s=0)
    assert docker_node.driver.observe() == []


def test_a_container_that_was_created_and_not_started_is_started_by_the_next_launch(docker_node: DockerNode):
    spec = docker_node.spec("a1")
    docker_node.driver._create(spec)  # where kill -9 leaves it
    seen = docker_node.see("a1")
    assert seen is not None
    assert (seen.phase, seen.address) == (Phase.STARTING, None)
    docker_node.restarted().launch(spec, progress=lambda done, total: None)
    assert docker_node.address("a1")


def test_a_created_container_whose_network_has_gone_is_started_all_the_same(docker_node: DockerNode):
    spec = docker_node.spec("a1")
    docker_node.driver._create(spec)
    for network in docker_node.client.networks(filters={"label": f"berth.site={docker_node.site}"}):
        docker_node.client.remove_network(network["Id"])
    docker_node.driver.launch(spec, progress=lambda done, total: None)
    assert docker_node.address("a1")


def test_stopping_what_is_not_there_does_nothing(docker_node: DockerNode):
    docker_node.driver.stop("nobody", grace_s=0)


def test_stop_removes_the_container_and_keeps_the_volume(docker_node: DockerNode):
    docker_node.run("a1", "echo kept > $HOME/note; exec sleep 1000")
    wait_for(lambda: (docker_node.data / "volumes/home-alice/note").exists(), seconds=10, what="the note")
    docker_node.driver.stop("a1", grace_s=0)
    assert docker_node.leftovers() == []
    docker_node.run("a2")
    assert docker_node.inside("a2", "cat $HOME/note") == (0, "kept\n")


def test_stop_asks_first_and_kills_when_the_grace_is_over(docker_node: DockerNode):
    docker_node.run("kind", "trap 'echo bye > $HOME/bye; exit 0' TERM; while :; do sleep 0.1; done")
    docker_node.run("deaf", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    wait_for(lambda: b"ready\n" in list(docker_node.driver.logs("deaf", tail=5)), seconds=10, what="the trap")
    docker_node.driver.stop("kind", grace_s=10)
    docker_node.driver.stop("deaf", grace_s=1)
    assert (docker_node.data / "volumes/home-alice/bye").exists()
    assert docker_node.leftovers() == []


def test_an_ended_container_tells_its_exit_code_and_its_last_lines_without_control_characters(docker_node: DockerNode):
    docker_node.run("a1", r"for i in $(seq 40); do echo line $i; done; printf '\033[31mred\033[0m \007end\n'; exit 3")
    seen = docker_node.until_exited("a1")
    assert (seen.exit_code, seen.code) == (3, "exited")
    assert "exit code 3" in seen.message
    assert seen.log_tail.splitlines()[-2:] == ["line 40", "red end"]
    assert "line 20" not in seen.log_tail
    docker_node.driver.launch(docker_node.spec("a1"), progress=lambda done, total: None)
    assert docker_node.see("a1") == seen, "a launch of something that has ended must not start it again"


def test_a_container_that_ran_out_of_memory_says_so(docker_node: DockerNode):
    docker_node.run("a1", "exec tail /dev/zero", memory_mib=16)
    seen = docker_node.until_exited("a1")
    assert seen.code == "oom-killed"
    assert "16 MiB" in seen.message


def test_logs_come_oldest_first_and_no_more_than_asked(docker_node: DockerNode):
    docker_node.run("a1", "for i in 1 2 3 4 5; do echo line $i; done; exec sleep 1000")
    wait_for(lambda: len(list(docker_node.driver.logs("a1", tail=10))) == 5, seconds=10, what="five lines")
    assert list(docker_node.driver.logs("a1", tail=2)) == [b"line 4\n", b"line 5\n"]
    assert list(docker_node.driver.logs("nobody", tail=2)) == []


def test_a_program_that_the_image_lacks_is_refused_and_leaves_nothing(docker_node: DockerNode):
    with pytest.raises(LaunchRefused, match="no program 'jupyter'") as refusal:
        docker_node.run("a1", command=("jupyter", "lab"))
    assert refusal.value.code == "command-missing"
    assert docker_node.leftovers() == []


def test_an_image_that_only_root_may_run_is_refused_with_the_two_lines_that_fix_it(docker_node: DockerNode):
    make_tiny_image(docker_node.client, "rooted:latest", user="root")
    with pytest.raises(LaunchRefused, match="FROM rooted:latest\nRUN chmod -R a\\+rwX /root$") as refusal:
        docker_node.run("a1", image="rooted:latest", command=("/root/only-root",))
    assert refusal.value.code == "image-needs-root"
    assert docker_node.leftovers() == []


def test_a_program_that_ends_at_once_was_started_all_the_same(docker_node: DockerNode):
    docker_node.run("a1", command=("true",))
    assert docker_node.until_exited("a1").exit_code == 0


def test_an_image_that_dies_because_it_may_not_write_says_what_to_do(docker_node: DockerNode):
    docker_node.run("a1", "echo x > /etc/motd")
    seen = docker_node.until_exited("a1")
    assert seen.code == "image-needs-root"
    assert f"FROM {TINY}\nRUN chmod -R a+rwX /etc/motd" in seen.message


def test_more_cpu_than_the_node_has_is_refused_in_the_engines_words(docker_node: DockerNode):
    with pytest.raises(LaunchRefused, match="CPU") as refusal:
        docker_node.run("a1", cpu_millis=4_096_000)
    assert refusal.value.code == "create-refused"
    assert docker_node.leftovers() == []


def test_a_volume_of_somebody_else_is_refused(docker_node: DockerNode):
    docker_node.run("a1", uid=20001, gid=20001)
    with pytest.raises(LaunchRefused, match="belongs to uid 20001, not to 20002") as refusal:
        docker_node.run("a2", uid=20002, gid=20002)
    assert refusal.value.code == "volume-owner"


@pytest.mark.parametrize("name", ["../etc", "/etc", "a/b", "", ".hidden", "a\nb"])
def test_no_name_reaches_a_folder_outside_the_volumes(docker_node: DockerNode, name: str):
    with pytest.raises(LaunchRefused):
        docker_node.run("a1", mounts=(Mount(name, "/home/alice"),))
    with pytest.raises(LaunchRefused):
        docker_node.run("a1", team=name)
    with pytest.raises(LaunchRefused):
        docker_node.run(name)
    assert docker_node.leftovers() == []


def test_a_taken_container_name_is_refused_and_not_taken_over(docker_node: DockerNode):
    name = docker_node.driver._names.container("a1")
    docker_node.client.create_container(TINY, name=name, command=["sleep", "1000"])
    try:
        with pytest.raises(LaunchRefused, match="already in use"):
            docker_node.run("a1")
    finally:
        docker_node.client.remove_container(name)


def test_two_sites_on_one_engine_do_not_see_each_other(docker_node: DockerNode):
    docker_node.run("a1")
    other = DockerNode(docker_node.engine, docker_node.data.parent / "other")
    try:
        assert other.driver.observe() == []
        other.driver.stop("a1", grace_s=0)
        assert docker_node.address("a1")
    finally:
        other.clear()


def test_verbs_from_many_threads_end_only_in_errors_of_the_family(docker_node: DockerNode):
    strangers: list[BaseException] = []

    def worker(number: int) -> None:
        for _ in range(4):
            try:
                docker_node.run(f"a{number % 2}")
                docker_node.driver.observe()
                docker_node.driver.stop(f"a{number % 2}", grace_s=0)
            except DriverError:
                continue
            except BaseException as error:
                strangers.append(error)

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert strangers == []
    for number in (0, 1):
        docker_node.driver.stop(f"a{number}", grace_s=0)
    assert docker_node.leftovers() == []


def fetch(address: tuple[str, int]) -> str:
    try:
        with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/", timeout=2) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
