"""The gateway's pure parts: names, heads, and what comes of odd bytes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspaces.gateway.admission import Refused, admit
from workspaces.gateway.enter import local_path
from workspaces.gateway.heads import OUR_COOKIES, Head, answer_headers, split_cookies, without_token
from workspaces.gateway.origins import Origins
from workspaces.gateway.routes import Key, Route, Table, token_key

HERE = Origins(portal="http://localhost:8000", domain="localhost", port=8001)
ABROAD = Origins(portal="https://berth.example", domain="work.berth.example", port=443, scheme="https")
bytes_in_headers = st.binary(max_size=60).map(lambda value: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", value))


@pytest.mark.parametrize(
    ("origins", "host", "workspace"),
    [
        (HERE, b"w-abc.localhost:8001", "abc"),
        (HERE, b"W-ABC.LocalHost:8001", "abc"),
        (HERE, b"w-abc.localhost", None),
        (HERE, b"w-abc.localhost:8000", None),
        (HERE, b"w-.localhost:8001", None),
        (HERE, b"w-a.b.localhost:8001", None),
        (HERE, b"w-abc.localhost.evil:8001", None),
        (HERE, b"evilw-abc.localhost:8001", None),
        (HERE, b"localhost:8001", None),
        (ABROAD, b"w-abc.work.berth.example", "abc"),
        (ABROAD, b"w-abc.work.berth.example:8001", None),
        (ABROAD, b"w-abc.berth.example", None),
    ],
)
def test_a_host_names_a_workspace_only_when_all_of_it_fits(
    origins: Origins, host: bytes, workspace: str | None
) -> None:
    assert origins.workspace_in(host) == workspace


def test_default_ports_are_not_part_of_an_origin() -> None:
    assert ABROAD.of("abc") == "https://w-abc.work.berth.example"
    assert HERE.of("abc") == "http://w-abc.localhost:8001"
    assert HERE.gateway == "http://localhost:8001"


@given(st.lists(st.tuples(st.sampled_from([*sorted(OUR_COOKIES), b"_xsrf", b"theme", b""]), bytes_in_headers)))
def test_no_cookie_of_ours_passes_in_whatever_company(pairs: list[tuple[bytes, bytes]]) -> None:
    header = b";".join(name + b" = " + value.replace(b";", b"") for name, value in pairs)
    _, passed = split_cookies(header)
    for part in passed.split(b";"):
        assert part.partition(b"=")[0].strip().lower() not in {name.lower() for name in OUR_COOKIES}


@given(
    st.lists(st.tuples(st.sampled_from([b"set-cookie", b"location", b"x-any", b"etag"]), bytes_in_headers)), st.data()
)
def test_a_secret_leaves_in_no_header(headers: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    where = data.draw(st.integers(0, len(headers)))
    headers.insert(where, (b"x-echo", b"a=" + b"s3cret" + b";b"))
    kept = answer_headers(
        headers, secret=b"s3cret", inside=b"127.0.0.1:1", outside=b"http://o", prefix=b"", cookies=True
    )
    assert all(b"s3cret" not in value for _, value in kept)


@given(st.text(max_size=30))
def test_the_way_onward_is_a_path_and_nothing_else(asked: str) -> None:
    path = local_path(asked)
    assert path.startswith("/")
    assert not path.startswith(("//", "/\\"))
    assert path.isprintable()
    assert path.isascii()
    assert path in (asked, "/lab")


@pytest.mark.parametrize("asked", ["/lab/tree/a%20b.ipynb?x=1#cell", "/", "/a;b/c=d", "/lab?next=//x"])
def test_ordinary_ways_onward_are_kept(asked: str) -> None:
    assert local_path(asked) == asked


@given(st.binary(max_size=40))
def test_a_target_without_a_token_of_ours_is_not_touched(tail: bytes) -> None:
    target = b"/x?" + tail
    if b"token=berth_" not in target:
        assert without_token(target) is target


@given(st.lists(st.tuples(st.sampled_from([b"host", b"origin", b"cookie", b"authorization", b"connection"]),
                          bytes_in_headers)), st.binary(max_size=30), st.sampled_from([b"GET", b"POST", b"TRACE"]))  # fmt: skip
def test_odd_bytes_are_refused_and_never_an_error(
    headers: list[tuple[bytes, bytes]], target: bytes, method: bytes
) -> None:
    table = Table(routes={"one": Route("one", 1, "n", "a", "t")}, keys={token_key("0" * 64): Key(user=1)})
    for socket in (False, True):
        with pytest.raises(Refused):
            admit(head=Head(headers), method=method, target=target, table=table, origins=HERE, socket=socket)
