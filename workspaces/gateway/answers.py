"""The gateway's own words: a short page for a person, one sentence of JSON for a program."""

import html
import json
from http import HTTPStatus

from workspaces.gateway.admission import Refused
from workspaces.gateway.heads import Head, Header
from workspaces.gateway.origins import Origins

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title} – Berth</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 34rem; margin: 18vh auto 0; padding: 0 1.5rem }}
h1 {{ font-size: 1.4rem }}
</style></head>
<body><main><h1>{title}</h1><p>{sentence}</p><p><a href="{href}">{label}</a></p></main></body></html>
"""
_POLICY = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)
_TITLES = {
    400: "This request makes no sense",
    401: "Not signed in here",
    403: "Not from there",
    404: "Nothing here",
    502: "The workspace does not answer",
    503: "Not ready",
}


def answer(refusal: Refused, *, head: Head, origins: Origins) -> tuple[int, list[Header], bytes]:
    """Status, headers and body for a request that goes no further."""
    if wants_page(head):
        body = _PAGE.format(
            title=_TITLES.get(refusal.status, HTTPStatus(refusal.status).phrase),
            sentence=html.escape(refusal.sentence),
            href=html.escape(origins.portal_page(refusal.workspace) if refusal.workspace else origins.portal + "/"),
            label="Open it in the portal" if refusal.workspace else "Go to the portal",
        ).encode()
        kind = b"text/html; charset=utf-8"
    else:
        body = json.dumps({"detail": refusal.sentence}).encode()
        kind = b"application/json"
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *QUIET, _POLICY]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status in (502, 503):
        headers.append((b"retry-after", b"2"))
    return refusal.status, headers, body


#: on everything that the gateway says itself: it concerns one person at one moment
QUIET: list[Header] = [
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


def wants_page(head: Head) -> bool:
    """Is a person waiting for a page, or a program for data?"""
    mode = head.get(b"sec-fetch-mode")
    return mode == b"navigate" if mode else b"text/html" in head.get(b"accept")
