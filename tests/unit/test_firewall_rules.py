"""What the wall is made of, where the machine says who its neighbours and its name servers are."""

from pathlib import Path

import pytest

from scheduling.nodes.engine import firewall
from scheduling.nodes.engine.firewall import Firewall
from scheduling.nodes.engine.names import Names

ROUTES = """Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0
eth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0
ib0 0000640A 00000000 0001 0 0 0 0000FFFF 0 0 0
"""
INTERFACES = """Inter-|   Receive  |  Transmit
 face |bytes packets|bytes packets
    lo: 0 0
  eth0: 1 1
{bridge}: 1 1
"""


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of what is forwarded, on a machine with an uplink, a fast network and one bridge of ours."""
    names = Names("site")
    files = {
        "_ROUTES": ROUTES,
        "_INTERFACES": INTERFACES.format(bridge=names.bridge("red", "open")),
        "resolv": "# made by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.53\nnameserver fd00::1\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        if name.startswith("_"):
            monkeypatch.setattr(firewall, name, tmp_path / name)
    monkeypatch.setattr(firewall, "_NAME_SERVERS", (tmp_path / "resolv", tmp_path / "nowhere"))
    wall = Firewall(names, open_networks=("10.7.0.0/16",))
    return wall._wanted()["iptables"][wall._chain("fwd")]


def place(rules: list[str], words: str) -> int:
    (found,) = [number for number, rule in enumerate(rules) if words in rule]
    return found


def test_the_uplinks_own_network_and_all_private_ones_are_closed_before_the_way_out_opens(rules: list[str]):
    way_out = place(rules, "-o eth0 -j RETURN")
    closed = ("192.0.2.0/24", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")
    assert all(place(rules, f"-d {network} -j DROP") < way_out for network in closed)
    assert not any("-o ib0" in rule for rule in rules), "what has no default route is no way out"
    assert rules[-1] == "-j DROP"


def test_what_is_opened_and_the_name_servers_come_first_but_never_before_metadata(rules: list[str]):
    opened, metadata = place(rules, "-d 10.7.0.0/16 -j RETURN"), place(rules, "-d 169.254.0.0/16 -j DROP")
    assert metadata < opened < place(rules, "-d 10.0.0.0/8 -j DROP")
    servers = [rule for rule in rules if "--dport 53" in rule]
    assert [rule.split(" -d ")[1].split()[0] for rule in servers] == ["10.0.0.53/32"] * 2, "no loopback, no IPv6"
    assert all(f"-i {Names('site').open_bridges}+" in rule for rule in servers)


def test_a_bridge_that_is_there_already_is_one_on_which_teammates_meet(rules: list[str]):
    bridge = Names("site").bridge("red", "open")
    assert rules[0] == f"-i {bridge} -o {bridge} -j RETURN"
