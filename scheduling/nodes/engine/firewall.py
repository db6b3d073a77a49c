"""The wall between workspaces and their host: own iptables chains that nothing else writes.

A container on any bridge, internal or not, reaches every service of its host unless a rule forbids it. The rules match
by the interface prefix of this site's bridges, so a bridge is behind the wall before it exists. They sit in the
`mangle` table: an ACCEPT that Docker, ufw or firewalld puts in front in `filter` cannot overrule a drop there, and the
restart of another Docker Engine, which empties Docker's own isolation chains, leaves them alone.
"""

import hashlib
import os
import subprocess
import threading
from pathlib import Path

from scheduling.nodes.driver import LaunchRefused
from scheduling.nodes.engine.names import Names

#: never to be reached from a container: link-local (cloud metadata, management controllers' host interfaces) and the
#: metadata addresses of clouds that do not use it
MANAGEMENT = ("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.0/24")

#: where Debian keeps iptables, which is not on the PATH of everybody who becomes root
_ALSO_ON_PATH = ":/usr/sbin:/sbin"
_NET = Path("/sys/class/net")
_ROUTES = Path("/proc/net/route")
_IPV6 = Path("/proc/sys/net/ipv6")


class Firewall:
    """Installs, checks and removes the chains of one site. Safe from several threads."""

    def __init__(self, names: Names) -> None:
        self._names = names
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
        bridges = sorted(self._planned | {path.name for path in _NET.glob(f"{self._names.bridges}*")})
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
                    *(f"-i {open_ones} -o {uplink} -j RETURN" for uplink in _uplinks()),
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


def _uplinks() -> list[str]:
    """Interfaces with a default route lead to the internet, all others to bridges, tunnels and management networks."""
    rows = [line.split() for line in _ROUTES.read_text().splitlines()[1:]]
    return sorted({row[0] for row in rows if row[1] == "00000000" and row[7] == "00000000"})


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
