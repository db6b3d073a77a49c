"""What passes through in a request's and an answer's head, and what does not. Pure: bytes in, bytes out."""

from collections.abc import Iterable, Sequence

Header = tuple[bytes, bytes]  # name in lower case, value as it came

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)
#: read at the door; those that the server behind may see too are in _SEEN_BY_BOTH
_READ_HERE = frozenset(
    (
        b"host",
        b"cookie",
        b"authorization",
        b"origin",
        b"sec-fetch-site",
        b"sec-fetch-mode",
        b"sec-fetch-dest",
        b"accept",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"upgrade",
        b"expect",
    )
)
_SEEN_BY_BOTH = frozenset((b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest", b"accept"))
#: said by whoever is in front of the server; only our own word counts
_FORGEABLE = frozenset((b"forwarded", b"x-real-ip", b"x-real-scheme", b"x-scheme", b"via"))
_DROPPED = _HOP_BY_HOP | _FORGEABLE | (_READ_HERE - _SEEN_BY_BOTH)

_PORTAL_COOKIES = (b"sessionid", b"csrftoken", b"messages")
GATE_COOKIES = (b"berth_gate", b"__Host-berth_gate")
#: never passed to a workspace, never accepted from one
OUR_COOKIES = frozenset(
    [*GATE_COOKIES, *(prefix + name for name in _PORTAL_COOKIES for prefix in (b"", b"__Host-", b"__Secure-"))]
)
_OUR_TOKEN = b"token=berth_"
_OURS_LOWER = frozenset(name.lower() for name in OUR_COOKIES)

#: about the whole host or its siblings, so not a workspace's to say
_NOT_THEIRS = frozenset((b"clear-site-data", b"strict-transport-security", b"alt-svc"))


class Head:
    """A request's headers, read once: `found` is what the door looks at, `passed` what the server behind will see."""

    __slots__ = ("found", "passed", "twice")

    def __init__(self, headers: Iterable[Header]) -> None:
        self.found: dict[bytes, bytes] = {}
        self.passed: list[Header] = []
        self.twice: set[bytes] = set()
        for pair in headers:
            name = pair[0]
            if name in _READ_HERE:
                if name in self.found:
                    self.twice.add(name)
                    # Cookies may come in several lines, lists are joined by commas; for the rest the door refuses.
                    self.found[name] += (b"; " if name == b"cookie" else b", ") + pair[1]
                else:
                    self.found[name] = pair[1]
            if name not in _DROPPED and not name.startswith(b"x-forwarded-"):
                self.passed.append(pair)
        if b"connection" in self.found:
            named = {token.strip().lower() for token in self.found[b"connection"].split(b",")}
            named -= {b"close", b"keep-alive", b"upgrade"}
            if named:
                self.passed = [pair for pair in self.passed if pair[0] not in named]

    def get(self, name: bytes) -> bytes:
        return self.found.get(name, b"")

    @property
    def has_body(self) -> bool:
        return b"transfer-encoding" in self.found or self.found.get(b"content-length", b"0") != b"0"


def split_cookies(header: bytes) -> tuple[list[bytes], bytes]:
    """The values of the gateway's own cookie, and the Cookie header that the workspace may see."""
    values: list[bytes] = []
    others: list[bytes] = []
    for part in header.split(b";"):
        name, _, value = part.strip().partition(b"=")
        name = name.strip()
        if name in GATE_COOKIES:
            values.append(value.strip())
        elif name.lower() not in _OURS_LOWER and (name or value):
            others.append(part.strip())
    return values, b"; ".join(others)


def without_token(target: bytes) -> bytes:
    """The target without a person's API token, which Jupyter clients also write into the address: it must not reach a
    container, nor its log. Everything else stays as it is, byte for byte."""
    if _OUR_TOKEN not in target:
        return target
    path, _, query = target.partition(b"?")
    kept = [part for part in query.split(b"&") if not part.startswith(_OUR_TOKEN)]
    return path + b"?" + b"&".join(kept) if kept else path


def request_head(
    *, method: bytes, target: bytes, host: bytes, passed: Sequence[Header], extra: Sequence[Header]
) -> bytes:
    """The bytes that go to the workspace's server."""
    lines = [method, b" ", target, b" HTTP/1.1\r\nhost: ", host]
    for name, value in passed:
        lines += (b"\r\n", name, b": ", value)
    for name, value in extra:
        lines += (b"\r\n", name, b": ", value)
    lines.append(b"\r\n\r\n")
    return b"".join(lines)


def answer_headers(
    headers: Iterable[Header], *, secret: bytes, inside: bytes, outside: bytes, prefix: bytes, cookies: bool
) -> list[Header]:
    """What the client sees of an answer's headers.

    secret: the server's token, in no header whatever the server says. inside: the server's own "host:port"; a Location
    that names it is turned to `outside`, our origin, with `prefix` before the path. cookies: whether it may set any.
    """
    kept: list[Header] = []
    named: set[bytes] = set()
    for pair in headers:
        name, value = pair
        if name in _HOP_BY_HOP:
            if name == b"connection":
                named |= {token.strip().lower() for token in value.split(b",")} - {b"close", b"keep-alive", b"upgrade"}
            continue
        if name in _NOT_THEIRS or (secret and secret in value):
            continue
        if name == b"set-cookie":
            if not cookies or not _may_set(value):
                continue
        elif name == b"location":
            pair = (name, _outward(value, inside=inside, outside=outside, prefix=prefix))
        kept.append(pair)
    return [pair for pair in kept if pair[0] not in named] if named else kept


def _may_set(cookie: bytes) -> bool:
    """A workspace's cookies stay on its own host and are never called like one of ours."""
    first, *attributes = cookie.split(b";")
    name = first.partition(b"=")[0].strip().lower()
    if name in _OURS_LOWER or not name:
        return False
    return all(attribute.partition(b"=")[0].strip().lower() != b"domain" for attribute in attributes)


def _outward(location: bytes, *, inside: bytes, outside: bytes, prefix: bytes) -> bytes:
    for scheme in (b"http://", b"https://", b"//"):
        for authority in (inside, outside.partition(b"://")[2]):
            start = scheme + authority
            if location.startswith(start) and location[len(start) : len(start) + 1] in (b"", b"/", b"?", b"#"):
                rest = location[len(start) :]
                return outside + prefix + (rest if rest.startswith(b"/") else b"/" + rest)
    if prefix and location.startswith(b"/") and not location.startswith(b"//"):
        return prefix + location
    return location
