"""The wall between workspaces, their host and the networks around it: own iptables chains that nothing else writes.

A container on any bridge, internal or not, reaches every service of its host unless a rule forbids it. The rules match
by the interface prefix of this site's bridges, so a bridge is behind the wall before it exists. An open way out leads
to the internet and not to the machines around: other nodes, the portal, its database and its broker live in private
networks or next to this machine, and no node knows them all; so all of that is closed but what an admin opens.

The rules sit in the `mangle` table: an ACCEPT that Docker, ufw or firewalld puts in front in `filter` cannot overrule a
drop there, and the restart of another Docker Engine, which empties Docker's own isolation chains, leaves them alone.
"""

import contextlib
import hashlib
import os
import re
import subprocess
import threading
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path

from scheduling.nodes.driver import LaunchRefused
from scheduling.nodes.engine.names import Names

#: never to be reached from a container: link-local (cloud metadata, management controllers' host interfaces) and the
#: metadata addresses of clouds that do not use it
MANAGEMENT = ("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.0/24")

#: where an installation's own machines live: RFC 1918, and RFC 6598's space behind a carrier's NAT
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")

#: where Debian keeps iptables, which is not on the PATH of everybody who becomes root
_ALSO_ON_PATH = ":/usr/sbin:/sbin"
#: both are those of the network namespace that we are in; /sys is that of whoever mounted it
_INTERFACES = Path("/proc/net/dev")
_ROUTES = Path("/proc/net/route")
#: the second is where systemd-resolved keeps the real ones, which the engine then hands to containers
_NAME_SERVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_IPV6 = Path("/proc/sys/net/ipv6")


class Firewall:
    """Installs, checks and removes the chains of one site. Safe from several threads."""

    def __init__(self, names: Names, *, open_networks: Sequence[str] = ()) -> None:
        """open_networks: private ones, in CIDR notation, to which an open way out leads all the same."""
        self._names = names
        self._open_networks = tuple(open_networks)
        self._lock = threading.Lock()
        self._planned: set[str] = set()

    def ensure(self, *, bridge: str = "") -> None:
        """Make the rules stand, `bridge` included even before it exists. Raises LaunchRefused("firewall-missing")."""
        with self._lock:
            if bridge:
                self._planned.add(bridge)
            for tool, chains in self._wanted().items():
                if not self._stands(tool, chains):
                    self._install(tool, chains)
                    if not self._stands(tool, chains):
                        raise _missing(f"{tool} took the rules but does not show them")

    def missing(self) -> str | None:
        """None while every rule stands, else what is wrong. Changes nothing."""
        with self._lock:
            try:
                gone = [tool for tool, chains in self._wanted().items() if not self._stands(tool, chains)]
            except LaunchRefused as refusal:
                return refusal.message
        return f"The rules of {' and '.join(gone)} between containers and this machine are gone." if gone else None

    def remove(self) -> None:
        """Take every rule of this site away; only when no container is left behind them."""
        with self._lock:
            self._planned.clear()
            for tool, chains in self._wanted().items():
                listing = _run([tool, "-w", "-t", "mangle", "-S"]).splitlines()
                present = [name for name in chains if f"-N {name}" in listing]
                lines = [f"-D {line[3:]}" for line in listing if _jumps_to(line, present)]
                lines += [f"-F {name}" for name in present] + [f"-X {name}" for name in present]
                if lines:
                    _restore(tool, lines)

    def _wanted(self) -> dict[str, dict[str, list[str]]]:
        """tool -> chain -> rules. The hooks' comment carries their digest: a changed wish is seen as missing."""
        ours, open_ones = f"{self._names.bridges}+", f"{self._names.open_bridges}+"
        bridges = sorted(self._planned | {name for name in _interfaces() if name.startswith(self._names.bridges)})
        uplinks = _uplinks()
        established = "-m conntrack --ctstate ESTABLISHED -j RETURN"
        related = "-p icmp -m conntrack --ctstate RELATED -j RETURN"  # "fragmentation needed", and no helper's guesses
        wanted = {
            "iptables": {
                self._chain("in"): [established, related, "-j DROP"],
                self._chain("fwd"): [
                    *(f"-i {bridge} -o {bridge} -j RETURN" for bridge in bridges),  # teammates meet on their bridge
                    f"-o {ours} {established}",
                    f"-o {ours} {related}",
                    f"-o {ours} -j DROP",
                    *(f"-d {block} -j DROP" for block in MANAGEMENT),
                    *(
                        f"-i {open_ones} -d {server}/32 -p {way} -m {way} --dport 53 -j RETURN"
                        for server in _name_servers()
                        for way in ("udp", "tcp")
                    ),
                    *(f"-i {open_ones} -d {network} -j RETURN" for network in self._open_networks),
                    *(f"-d {network} -j DROP" for network in (*PRIVATE, *_neighbours(uplinks))),
                    *(f"-i {open_ones} -o {uplink} -j RETURN" for uplink in uplinks),
                    "-j DROP",
                ],
            }
        }
        if _IPV6.exists():
            wanted["ip6tables"] = {self._chain("in"): ["-j DROP"], self._chain("fwd"): ["-j DROP"]}
        return wanted

    def _chain(self, way: str) -> str:
        return f"BERTH-{self._names.tag}-{way}"

    def _hooks(self, chain: str, rules: list[str]) -> list[str]:
        digest = hashlib.sha256("\n".join(rules).encode()).hexdigest()[:12]
        tail = f'-m comment --comment "berth {digest}" -j {chain}'
        if chain.endswith("-in"):
            return [f"-A INPUT -i {self._names.bridges}+ {tail}"]
        return [f"-A FORWARD -i {self._names.bridges}+ {tail}", f"-A FORWARD -o {self._names.bridges}+ {tail}"]

    def _stands(self, tool: str, chains: dict[str, list[str]]) -> bool:
        listing = _run([tool, "-w", "-t", "mangle", "-S"]).splitlines()
        return all(
            sum(line.startswith(f"-A {chain} ") for line in listing) == len(rules)
            and all(hook in listing for hook in self._hooks(chain, rules))
            for chain, rules in chains.items()
        )

    def _install(self, tool: str, chains: dict[str, list[str]]) -> None:
        """Rewrite the chains and their hooks in one atomic restore: no running container is ever without them."""
        listing = _run([tool, "-w", "-t", "mangle", "-S"]).splitlines()
        lines = [f":{chain} - [0:0]" for chain in chains]
        for chain, rules in chains.items():
            lines += [f"-A {chain} {rule}" for rule in rules]
            lines += [f"-I{hook[2:]}" for hook in self._hooks(chain, rules)]
        lines += [f"-D {line[3:]}" for line in listing if _jumps_to(line, list(chains))]
        _restore(tool, lines)


def _jumps_to(line: str, chains: list[str]) -> bool:
    return line.startswith(("-A INPUT ", "-A FORWARD ")) and any(line.endswith(f" -j {chain}") for chain in chains)


def _interfaces() -> list[str]:
    return [line.partition(":")[0].strip() for line in _INTERFACES.read_text().splitlines()[2:]]


def _routes() -> list[list[str]]:
    return [line.split() for line in _ROUTES.read_text().splitlines()[1:]]


def _uplinks() -> list[str]:
    """Interfaces with a default route lead to the internet, all others to bridges, tunnels and management networks."""
    return sorted({row[0] for row in _routes() if row[1] == "00000000" and row[7] == "00000000"})


def _neighbours(uplinks: list[str]) -> list[str]:
    """The networks whose machines an uplink reaches without a router, in CIDR notation."""
    found = {(_quad(row[1]), _quad(row[7])) for row in _routes() if row[0] in uplinks and row[2] == "00000000"}
    networks = sorted(IPv4Network(f"{address}/{mask}") for address, mask in found)
    return [str(network) for network in networks if network.prefixlen]


def _quad(little_endian: str) -> str:
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(little_endian)))


def _name_servers() -> list[str]:
    """The IPv4 ones that containers with a way out are told, which may well live in a private network."""
    found = set()
    for path in _NAME_SERVERS:
        with contextlib.suppress(OSError):
            for line in path.read_text(errors="replace").splitlines():
                words = line.split()
                if words[:1] == ["nameserver"] and len(words) > 1 and re.fullmatch(r"[\d.]+", words[1]):
                    found.add(words[1])
    return sorted(server for server in found if not server.startswith("127."))


def _restore(tool: str, lines: list[str]) -> None:
    _run([f"{tool}-restore", "-w", "--noflush"], stdin="\n".join(["*mangle", *lines, "COMMIT", ""]))


def _run(argv: list[str], *, stdin: str = "") -> str:
    env = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}{_ALSO_ON_PATH}", "LC_ALL": "C"}
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=30, env=env, check=False)
    except FileNotFoundError as error:
        raise _missing(f"{argv[0]} is not installed (apt-get install iptables)") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _missing(f"{argv[0]} did not run: {error}") from error
    if done.returncode != 0:
        raise _missing(f"{argv[0]} said: {' '.join(done.stderr.split()) or done.returncode}")
    return done.stdout


def _missing(why: str) -> LaunchRefused:
    return LaunchRefused(
        "firewall-missing",
        f"The firewall between containers and this machine cannot be put up, so nothing is started here: {why}.",
    )
