"""What a container can reach, found out by trying from inside it. Every "cannot" is first shown to be there."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from scheduling.nodes.driver import LaunchRefused
from tests.docker_engine import DockerNode
from tests.services import free_port, wait_for

pytestmark = pytest.mark.docker

METADATA = "169.254.169.254"
#: a network beyond the host, in TEST-NET-2; the host's side of the link to it and the other end
NEAR, FAR = "198.51.100.1", "198.51.100.2"
#: beyond that network: somewhere in the internet (TEST-NET-3), and a machine of the installation's own
INTERNET, PRIVATE = "203.0.113.9", "10.203.113.9"
SERVE = "mkdir -p /tmp/www; echo reached > /tmp/www/index.html; exec httpd -f -p 8888 -h /tmp/www"


class World:
    """The internet, as a network namespace behind a second default route: a server, and cloud metadata beside it."""

    port = 8080

    def __enter__(self) -> "World":
        remove_worlds_of_the_dead()
        self.name = f"berth{os.getpid()}"
        self.link = f"bw{os.getpid()}"
        run(f"ip netns add {self.name}")
        run(f"ip link add {self.link} type veth peer name far netns {self.name}")
        run(f"ip addr add {NEAR}/24 dev {self.link}; ip link set {self.link} up")
        inner = f"ip -n {self.name}"
        run(f"{inner} link set lo up; {inner} link set far up; {inner} addr add {FAR}/24 dev far")
        run(f"{inner} route add default via {NEAR}; ip route add default via {FAR} dev {self.link} metric 4242")
        for address in (METADATA, INTERNET, PRIVATE):
            run(f"{inner} addr add {address}/32 dev lo; ip route add {address}/32 via {FAR}")
        self.server = http_server(self.port, netns=self.name)
        return self

    def __exit__(self, *exc: object) -> None:
        end(self.server)
        run(f"ip link del {self.link}; ip netns del {self.name}")


def remove_worlds_of_the_dead() -> None:
    """A run that was killed leaves its link behind, and this one's addresses would be looked for at its other end."""
    for link in os.listdir("/sys/class/net"):
        if (found := re.fullmatch(r"bw(\d+)", link)) and not os.path.exists(f"/proc/{found[1]}"):
            run(f"ip link del {link}; ip netns del berth{found[1]} 2>/dev/null || true")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as made:
        yield made


@pytest.fixture
def host_port() -> Iterator[int]:
    """A service of the host that listens on all its addresses, as the portal in a careless set-up might."""
    port = free_port("0.0.0.0")
    server = http_server(port)
    yield port
    end(server)


def test_the_host_dials_the_container(docker_node: DockerNode, world: World):
    for egress in ("none", "open"):
        docker_node.run(egress, SERVE, egress=egress)
        wait_for(
            lambda e=egress: from_host(docker_node.address(e), 8888), seconds=10, what="an answer from the container"
        )


@pytest.mark.parametrize("egress", ["none", "open"])
def test_no_address_of_the_host_answers_a_container(docker_node: DockerNode, world: World, host_port: int, egress: str):
    docker_node.run("a1", egress=egress)
    addresses = host_addresses()
    assert gateway(docker_node, "a1") in addresses
    assert NEAR in addresses
    unreachable(docker_node, "a1", [(address, host_port) for address in addresses])


def test_another_teams_container_and_gateway_do_not_answer(docker_node: DockerNode, world: World, host_port: int):
    for egress in ("none", "open"):
        docker_node.run(f"red-{egress}", SERVE, team="red", egress=egress)
        docker_node.run(f"blue-{egress}", SERVE, team="blue", egress=egress)
    for egress in ("none", "open"):
        targets = [(docker_node.address(f"blue-{other}"), 8888) for other in ("none", "open")]
        targets += [(gateway(docker_node, f"blue-{other}"), host_port) for other in ("none", "open")]
        targets += [(docker_node.address(f"red-{'open' if egress == 'none' else 'none'}"), 8888)]
        unreachable(docker_node, f"red-{egress}", targets)


@pytest.mark.parametrize("egress", ["none", "open"])
def test_teammates_meet_on_their_bridge(docker_node: DockerNode, egress: str):
    docker_node.run("a1", egress=egress)
    docker_node.run("a2", SERVE, egress=egress, mounts=())
    address = docker_node.address("a2")
    wait_for(lambda: from_host(address, 8888), seconds=10, what="the teammate's server")
    assert reaches(docker_node, "a1", address, 8888)


def test_an_open_way_out_leads_to_the_internet_but_to_nothing_around_this_machine(
    docker_node: DockerNode, world: World
):
    docker_node.run("a1", egress="open")
    assert reaches(docker_node, "a1", INTERNET, world.port)
    unreachable(docker_node, "a1", [(address, world.port) for address in (METADATA, FAR, PRIVATE)])


def test_a_private_network_that_is_opened_answers_and_its_neighbours_do_not(docker_node: DockerNode, world: World):
    docker_node.driver.close()
    docker_node.driver = docker_node.restarted(open_networks=(f"{PRIVATE}/32",))
    docker_node.run("a1", egress="open")
    docker_node.run("a2", egress="none")
    assert reaches(docker_node, "a1", PRIVATE, world.port)
    unreachable(docker_node, "a1", [(FAR, world.port), (METADATA, world.port)])
    unreachable(docker_node, "a2", [(PRIVATE, world.port)])


def test_without_a_way_out_nothing_of_the_world_answers(docker_node: DockerNode, world: World):
    docker_node.run("a1", egress="none")
    unreachable(docker_node, "a1", [(address, world.port) for address in (INTERNET, FAR, METADATA, PRIVATE)])


def test_a_container_has_no_address_but_its_own_and_no_ipv6(docker_node: DockerNode):
    docker_node.run("a1")
    code, output = docker_node.inside("a1", "ip -o addr | awk '{print $4}' | cut -d/ -f1; cat /proc/net/if_inet6")
    assert code == 0
    assert sorted(output.split()) == sorted(["127.0.0.1", docker_node.address("a1")])


def test_names_are_not_looked_up_for_a_container_without_a_way_out(docker_node: DockerNode):
    docker_node.run("a1", egress="none")
    code, output = docker_node.inside("a1", "nslookup -timeout=2 secret.example.org 2>&1; cat /etc/resolv.conf")
    assert "Address" not in output.partition("secret.example.org")[2].partition("nameserver")[0]


def test_nothing_of_a_container_is_published(docker_node: DockerNode):
    docker_node.run("a1", SERVE)
    found = docker_node.inspect("a1")
    assert found["HostConfig"]["PortBindings"] in (None, {})
    assert not any(found["NetworkSettings"]["Ports"].values())


def test_rules_that_somebody_flushed_are_put_up_again_by_the_next_look(docker_node: DockerNode, host_port: int):
    docker_node.run("a1")
    for tool in ("iptables", "ip6tables"):
        run(f"{tool} -t mangle -F BERTH-{docker_node.driver._names.tag}-in")
    assert docker_node.driver._firewall.missing() is not None
    assert reaches(docker_node, "a1", gateway(docker_node, "a1"), host_port), "the wall is what keeps the host closed"
    docker_node.restarted().observe()
    unreachable(docker_node, "a1", [(gateway(docker_node, "a1"), host_port)])


def test_the_wall_does_not_end_streams_that_the_host_has_open(docker_node: DockerNode):
    docker_node.run("a1", "exec nc -ll -p 8888 -e cat")
    address = docker_node.address("a1")
    wait_for(lambda: subprocess.run(["busybox", "nc", "-w", "1", address, "8888"], input=b"x", capture_output=True,
                                    check=False).stdout == b"x", seconds=10, what="the echo")  # fmt: skip
    stream = subprocess.Popen(["busybox", "nc", address, "8888"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert stream.stdin is not None
    assert stream.stdout is not None
    try:
        for number in range(3):
            stream.stdin.write(b"%d\n" % number)
            stream.stdin.flush()
            assert stream.stdout.readline() == b"%d\n" % number
            docker_node.driver._firewall.ensure(bridge=docker_node.driver._names.bridge(f"team{number}", "open"))
    finally:
        stream.kill()
        stream.wait()
        stream.stdin.close()
        stream.stdout.close()


def test_without_iptables_a_launch_is_refused(docker_node: DockerNode, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("scheduling.nodes.engine.firewall._ALSO_ON_PATH", "")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LaunchRefused, match="iptables is not installed") as refusal:
        docker_node.run("a1")
    assert refusal.value.code == "firewall-missing"
    assert docker_node.leftovers() == []
    monkeypatch.undo()


def test_closing_the_driver_takes_rules_and_bridges_away_only_when_nothing_runs(docker_node: DockerNode):
    docker_node.run("a1")
    tag = docker_node.driver._names.tag
    docker_node.restarted().close()
    assert f"BERTH-{tag}" in run("iptables -t mangle -S")
    docker_node.driver.stop("a1", grace_s=0)
    docker_node.driver.close()
    assert f"BERTH-{tag}" not in run("iptables -t mangle -S; ip6tables -t mangle -S")
    assert f"bth{tag}" not in run("ip -br link")


def unreachable(node: DockerNode, allocation: str, targets: list[tuple[str, int]]) -> None:
    """None answers the container within 2 s, and each answers the host at the same moment."""
    assert [target for target in targets if not from_host(*target)] == [], "a wall in front of nothing proves nothing"
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda target: reaches(node, allocation, *target), targets))
    assert [target for target, answer in zip(targets, answers, strict=True) if answer] == []


def reaches(node: DockerNode, allocation: str, address: str, port: int) -> bool:
    code, _ = node.inside(allocation, f"timeout 2 wget -q -O /dev/null http://{address}:{port}/")
    return code == 0


def from_host(address: str, port: int) -> bool:
    """Asked by another process: the guard around this one's sockets lets nothing through to link-local addresses."""
    argv = ["timeout", "2", "busybox", "wget", "-q", "-O", "-", f"http://{address}:{port}/"]
    return subprocess.run(argv, capture_output=True, check=False).stdout == b"reached\n"


def gateway(node: DockerNode, allocation: str) -> str:
    networks = node.inspect(allocation)["NetworkSettings"]["Networks"].values()
    name = next(iter(networks))["NetworkID"]
    return str(node.client.inspect_network(name)["IPAM"]["Config"][0]["Gateway"])


def host_addresses() -> list[str]:
    """Every IPv4 address of this machine that is not loopback: its bridges' and uplinks' ones."""
    return run("ip -4 -o addr | awk '$2 != \"lo\" {print $4}' | cut -d/ -f1").split()


def http_server(port: int, *, netns: str = "") -> subprocess.Popen[bytes]:
    prefix = ["nsenter", f"--net=/var/run/netns/{netns}"] if netns else []
    folder = "/tmp/berth-walls"
    script = f"mkdir -p {folder}; echo reached > {folder}/index.html; exec busybox httpd -f -p {port} -h {folder}"
    return subprocess.Popen([*prefix, "sh", "-c", script], start_new_session=True)


def end(server: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def run(script: str) -> str:
    return subprocess.run(["sh", "-ec", script], check=True, capture_output=True, text=True).stdout
