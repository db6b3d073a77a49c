"""The door: one question per request, answered from memory. Pure, so that every rule can be tried without a server."""

import re
from dataclasses import dataclass
from hashlib import sha256

from workspaces.gateway.heads import Head, split_cookies, without_token
from workspaces.gateway.origins import WORKSPACE_ID, Origins
from workspaces.gateway.routes import Route, Table, cookie_key, token_key

_SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
#: CONNECT makes a tunnel to anywhere; TRACE would echo the server's token that we put in
_NEVER = frozenset((b"CONNECT", b"TRACE", b"TRACK"))
_BY_PATH = re.compile(rb"/w/([^/?]*)")


class Refused(Exception):
    """Not let in. `sentence` is for the person; `workspace` names the portal page that may help, if one can."""

    def __init__(self, status: int, sentence: str, *, workspace: str = "", maybe_new: bool = False) -> None:
        self.status, self.sentence, self.workspace = status, sentence, workspace
        #: shown a key or a name that the table does not hold: it may be younger than the table
        self.maybe_new = maybe_new
        super().__init__(sentence)


@dataclass(frozen=True, slots=True)
class Admitted:
    """Let in: where to, by which key, and how the workspace's own names map to ours."""

    route: Route
    key: str
    target: bytes  # path and query for the server behind, byte for byte
    cookie: bytes  # the Cookie header it may see
    prefix: bytes  # what was taken off the path
    origin: str  # the origin that the client sees
    by_cookie: bool


def admit(
    *, head: Head, method: bytes, target: bytes, table: Table, origins: Origins, socket: bool = False
) -> Admitted:
    """Let a request through or raise Refused. `socket`: it is a WebSocket handshake."""
    if method in _NEVER:
        raise Refused(405, "The gateway does not serve this method.")
    if not head.get(b"host") or b"host" in head.twice or not target.startswith(b"/"):
        raise Refused(400, "The request must name one host and a path.")
    target = without_token(target)
    workspace = origins.workspace_in(head.get(b"host"))
    if workspace is not None:
        return _admit_browser(
            workspace, head=head, method=method, target=target, table=table, origins=origins, socket=socket
        )
    return _admit_program(head=head, target=target, table=table, origins=origins, socket=socket)


def _admit_browser(
    workspace: str, *, head: Head, method: bytes, target: bytes, table: Table, origins: Origins, socket: bool
) -> Admitted:
    """By the workspace's own host name, with the cookie that a ticket was exchanged for."""
    shown, cookie = split_cookies(head.get(b"cookie"))
    origin = origins.of(workspace)
    keys = [cookie_key(sha256(value).hexdigest()) for value in shown[:4]]
    known = [key for key in keys if table.knows(key)]
    if not known:
        raise Refused(
            401,
            "You are not signed in to this workspace. Open it from the portal.",
            workspace=workspace,
            maybe_new=bool(keys),
        )
    fitting = [key for key in known if table.fits(key=key, workspace=workspace)]
    if not fitting:
        raise Refused(404, "There is no workspace here that you may open.")
    _refuse_foreign_pages(head=head, method=method, origin=origin.encode(), socket=socket)
    route = table.route_for(key=fitting[0], workspace=workspace)
    if route is None:
        raise Refused(
            503, "This workspace is not running. Start it in the portal.", workspace=workspace, maybe_new=True
        )
    return Admitted(route, fitting[0], target, cookie, b"", origin, True)


def _refuse_foreign_pages(*, head: Head, method: bytes, origin: bytes, socket: bool) -> None:
    """The cookie is sent along with what other pages ask, too, and the neighbours w-1 and w-2 count as one site for
    SameSite. So a page of another origin may do no more than bring the person here."""
    claimed, site = head.found.get(b"origin"), head.get(b"sec-fetch-site")
    if socket:
        if claimed != origin or b"origin" in head.twice:
            raise Refused(403, "Only pages of this workspace may open its sockets.")
        return
    if method not in _SAFE:
        if (claimed is not None and claimed != origin) or (claimed is None and site != b"same-origin"):
            raise Refused(403, "Only pages of this workspace may change things in it.")
    elif claimed is not None and claimed != origin and head.get(b"sec-fetch-mode") != b"navigate":
        raise Refused(403, "Pages of other origins may not read this workspace.")
    visit = head.get(b"sec-fetch-mode") == b"navigate" and head.get(b"sec-fetch-dest") in (b"", b"document")
    if site in (b"cross-site", b"same-site") and not visit:
        raise Refused(403, "Pages of other sites may link to this workspace but not load parts of it.")


def _admit_program(*, head: Head, target: bytes, table: Table, origins: Origins, socket: bool) -> Admitted:
    """By path on the plain host, with an API token. Cookies never count here: this host is the portal's neighbour."""
    found = _BY_PATH.match(target)
    if found is None:
        raise Refused(404, f"This is Berth's gateway. The portal is at {origins.portal}/.")
    kind, _, token = head.get(b"authorization").partition(b" ")
    if kind.lower() != b"bearer" or not token.strip():
        raise Refused(401, "Send an API token as 'Authorization: Bearer <token>'.")
    key = token_key(sha256(token.strip()).hexdigest())
    if not table.knows(key):
        raise Refused(401, "This API token is unknown, expired or revoked. Make a new one.", maybe_new=True)
    claimed = head.found.get(b"origin")
    if claimed is not None and claimed != origins.gateway.encode():
        raise Refused(403, "Pages of other origins may not use the gateway.")
    workspace = found[1].decode("latin-1") if WORKSPACE_ID.match(found[1]) else ""
    route = table.route_for(key=key, workspace=workspace)
    if route is None:
        raise Refused(404, "There is no running workspace here that this token may open.", maybe_new=bool(workspace))
    rest = target[found.end() :]
    return Admitted(
        route=route,
        key=key,
        target=rest if rest.startswith(b"/") else b"/" + rest,
        cookie=b"",
        prefix=found[0],
        origin=origins.gateway,
        by_cookie=False,
    )
