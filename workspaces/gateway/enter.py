"""How a browser comes in: it shows a ticket once and leaves with a cookie and a clean address."""

import re
from collections.abc import Awaitable, Callable
from hashlib import sha256
from urllib.parse import parse_qs

from workspaces.gateway.admission import Refused
from workspaces.gateway.answers import QUIET
from workspaces.gateway.heads import GATE_COOKIES, Head, Header
from workspaces.gateway.origins import Origins
from workspaces.gateway.routes import Key, Rights, cookie_key

ENTER = b"/.berth/enter"
_DEFAULT_NEXT = "/lab"
#: a path on this host and nothing else; "\\" and control characters are where browsers disagree with servers
_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*\Z")


Redeem = Callable[[str, str], Awaitable[tuple[str, int] | None]]
"""(ticket, workspace id) -> the cookie's value and whose it is, or None for a ticket that is not good (any more)."""


async def enter(
    *, head: Head, method: bytes, target: bytes, origins: Origins, rights: Rights, redeem: Redeem
) -> tuple[int, list[Header], bytes]:
    """Status, headers and body: a 303 to a clean address with the cookie, or raises Refused."""
    workspace = origins.workspace_in(head.get(b"host"))
    if workspace is None or b"host" in head.twice:
        raise Refused(404, "There is no such page on the gateway.")
    if method != b"GET":
        raise Refused(405, "A ticket is shown with GET.")  # and not burnt by a HEAD of some link checker
    asked = parse_qs(target.partition(b"?")[2].decode("latin-1"), keep_blank_values=True)
    onward = local_path(asked.get("next", [""])[0])
    won = await redeem(asked.get("ticket", [""])[0], workspace)
    if won is None:
        raise Refused(
            401,
            "This way in has been used or is too old. Open the workspace from the portal again.",
            workspace=workspace,
        )
    cookie, user = won
    rights.learn(cookie_key(sha256(cookie.encode()).hexdigest()), Key(user=user, workspace=workspace))
    return (
        303,
        [
            (b"location", onward.encode()),
            (b"set-cookie", cookie_header(cookie, secure=origins.secure)),
            (b"content-length", b"0"),
            *QUIET,
        ],
        b"",
    )


def local_path(asked: str) -> str:
    """`asked` if it is a path on this very host, else JupyterLab's."""
    return asked if _LOCAL.match(asked) and asked.isascii() else _DEFAULT_NEXT


def cookie_header(value: str, *, secure: bool) -> bytes:
    """Host-only (no Domain), out of scripts' reach, and ending with the browser's session."""
    name = GATE_COOKIES[1 if secure else 0].decode()
    return f"{name}={value}; Path=/; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}".encode()
