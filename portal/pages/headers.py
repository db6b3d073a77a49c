"""The headers that every answer of the portal carries, and the refusal of requests that another site started."""

from collections.abc import Callable

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from workspaces.wiring import wired

Answer = Callable[[HttpRequest], HttpResponse]

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def content_security_policy(*, host: str, secure: bool, workspaces: str) -> str:
    """Everything from this origin, nothing inline, no framing.

    `workspaces` (e.g. "http://*.localhost:8001") is where Open's form is redirected to: Chromium applies form-action to
    redirects too. The socket's origin is named because older browsers do not count ws: as 'self'.
    """
    socket = f"{'wss' if secure else 'ws'}://{host}"
    return "; ".join(
        [
            "default-src 'self'",
            f"connect-src 'self' {socket}",
            f"form-action 'self' {workspaces}",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "object-src 'none'",
        ]
    )


class SecurityHeaders:
    """Outermost, so that errors and static files carry them as well."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        policy = content_security_policy(
            host=_host(request),
            secure=request.is_secure(),
            workspaces=wired().browser_origin("*").replace("w-*.", "*."),
        )
        for name, value in (
            ("Content-Security-Policy", policy),
            ("Referrer-Policy", "same-origin"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
        ):
            response.headers.setdefault(name, value)
        if response.get("Content-Type", "").startswith("text/html"):
            # Pages hold launch keys and names: never from a cache, nor after a log-out.
            response.headers.setdefault("Cache-Control", "private, no-store")
        return response


def _host(request: HttpRequest) -> str:
    try:
        return request.get_host()
    except DisallowedHost:  # answered 400 already; nothing that a stranger wrote goes into a header
        return "localhost"


class SameOriginOnly:
    """Refuses unsafe requests that a page of another origin, a workspace's too, made this browser send.

    CSRF tokens stop those as well; this one needs no secret. Programs send no Sec-Fetch-Site and are not browsers.
    """

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if request.method in SAFE or site == "same-origin":
            return self.get_response(request)
        sentence = "This request was started by another site, so it was refused and nothing was changed."
        return render(request, "portal/message.html", {"headline": "Refused", "sentence": sentence}, status=403)
