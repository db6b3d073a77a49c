"""How what belongs to one installation ("site") is told from everything else on the same machine."""

import base64
import hashlib
import re

ALLOCATION = "berth.allocation"
SITE = "berth.site"
JOB = "berth.job"
TEAM = "berth.team"
EGRESS = "berth.egress"
PORT = "berth.port"

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def is_plain(name: str) -> bool:
    """Fit for a container's, volume's or folder's name: no slashes, no dots in front, no surprises in a shell."""
    return _SAFE.fullmatch(name) is not None


def short(text: str, length: int) -> str:
    """`length` characters of a-z and 2-7 that stand for `text` (5 bits each)."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:length]


class Names:
    """Names of one site. An interface name has 15 characters at most: bth + site (4) + egress (1) + team (7)."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.tag = short(site, 4)
        self.bridges = f"bth{self.tag}"  # every bridge of this site starts so; a firewall rule per prefix
        self.open_bridges = f"{self.bridges}o"  # those that may reach the internet

    def container(self, allocation: str) -> str:
        return f"berth-{self.tag}-{allocation}"

    def network(self, team: str, egress: str) -> str:
        return f"berth-{self.tag}-{team}-{egress}"

    def bridge(self, team: str, egress: str) -> str:
        return f"{self.bridges}{'o' if egress == 'open' else 'n'}{short(team, 7)}"
