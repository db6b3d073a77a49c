"""The cluster's cables: a switch, a namespace per node, and a world beyond them. All of it goes with its namespaces.

The switch is a bridge in a namespace of its own, because a bridge of this machine would pass the machine's own firewall,
into which every Docker Engine writes. This machine, where the control plane runs, has one cable to it.

    this machine .1 ──┐           ┌── .11 node n1
                      ├─ switch ──┼── .12 node n2
    the world  .254 ──┘           └── .13 node n3
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

#: somewhere in the internet (TEST-NET-3), and where clouds tell their machines' secrets; both are in the world
INTERNET, METADATA = "203.0.113.9", "169.254.169.254"
WORLD_PORT = 80
_NETNS = Path("/run/netns")


class CannotRun(Exception):
    """The cluster cannot be started here; the message says why and what to do."""


def run(*argv: object) -> str:
    """What it printed. Raises CannotRun with its own words."""
    words = [str(word) for word in argv]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise CannotRun(f"`{' '.join(words)}` failed: {' '.join(done.stderr.split()) or done.returncode}")
    return done.stdout


class Network:
    """`tag` begins every name that it leaves on this machine: berth-c<process id>."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self.tag = f"berth-c{os.getpid()}"
        self._cable = f"bc{os.getpid()}"
        self._net = _free_network()
        self.control = f"{self._net}.1"
        self.range = f"{self._net}.0/24"
        self.nodes = {name: f"{self._net}.{11 + number}" for number, name in enumerate(nodes)}

    def namespace(self, name: str) -> str:
        return f"{self.tag}-{name}"

    def enter(self, name: str) -> tuple[str, ...]:
        """What a command is started through to be in this namespace. `ip netns exec` would hide the cgroups from it."""
        return ("nsenter", f"--net={_NETNS / self.namespace(name)}")

    def up(self) -> None:
        switch = self.namespace("switch")
        run("ip", "netns", "add", switch)
        run("ip", "-n", switch, "link", "add", "name", "hub", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "hub", "up")
        run("ip", "link", "add", self._cable, "type", "veth", "peer", "name", "control", "netns", switch)
        run("ip", "-n", switch, "link", "set", "control", "master", "hub", "up")
        run("ip", "addr", "add", f"{self.control}/24", "dev", self._cable)
        run("ip", "link", "set", self._cable, "up")
        world = f"{self._net}.254"
        for name, address in {**self.nodes, "world": world}.items():
            inside = self.namespace(name)
            run("ip", "netns", "add", inside)
            run("ip", "-n", switch, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", inside)
            run("ip", "-n", switch, "link", "set", name, "master", "hub", "up")
            run("ip", "-n", inside, "addr", "add", f"{address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                run("ip", "-n", inside, "link", "set", link, "up")
            if name != "world":
                run("ip", "-n", inside, "route", "add", "default", "via", world)
        for address in (INTERNET, METADATA):
            run("ip", "-n", self.namespace("world"), "addr", "add", f"{address}/32", "dev", "lo")

    def unplug(self, node: str) -> None:
        """As if the node's cable were drawn: nothing reaches it and it reaches nothing."""
        run("ip", "-n", self.namespace("switch"), "link", "set", node, "down")

    def plug(self, node: str) -> None:
        run("ip", "-n", self.namespace("switch"), "link", "set", node, "up")

    def reaches(self, node: str, address: str, port: int) -> bool:
        """Whether a process of the node itself, not one in a container, can connect there."""
        argv = [*self.enter(node), "busybox", "nc", "-w", "2", address, str(port)]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def _free_network() -> str:
    """The first three numbers of a /24 that no interface of this machine is in."""
    taken = run("ip", "-4", "-o", "addr")
    return next(net for number in range(1, 255) if f" {(net := f'10.214.{number}')}." not in taken)
