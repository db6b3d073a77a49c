"""What a person sees when a page cannot be shown: one sentence, and the way on."""

import logging
import secrets
import sys
from collections.abc import Callable
from urllib.parse import urlencode

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import DisallowedHost, RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render

from portal.api_errors import plain_problem
from portal.kernel.errors import BerthError, Missing
from portal.outages import outage

log = logging.getLogger("berth.pages")

NOT_FOUND = "There is nothing at this address, or nothing that you may see."


class BerthErrorPages:
    """Turns an error of the domain that no view expected into a page with the family's status."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if sentence := outage(error):
            log.error("%s %s: %s", request.method, request.path, error)
            return unavailable(request, sentence)
        if not isinstance(error, BerthError) or error.status == 500:
            return None
        if isinstance(error, Missing):
            return not_found(request)
        return _page(request, headline="That did not work", sentence=error.sentence, status=error.status)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """The same page for what never was, what is gone and what is somebody else's."""
    return _page(request, headline="Not found", sentence=NOT_FOUND, status=404)


def unavailable(request: HttpRequest, sentence: str) -> HttpResponse:
    """The database is away or the disk is full."""
    if _for_a_program(request):
        return plain_problem(status=503, code="unavailable", detail=sentence)
    _forget_who_asks(request)
    return _page(request, headline="Not now", sentence=sentence, status=503)


def broken(request: HttpRequest) -> HttpResponse:
    """A bug, or an outage met outside of the views. Django has logged the traceback; the id leads to it."""
    if sentence := outage(sys.exc_info()[1]):
        return unavailable(request, sentence)
    error_id = secrets.token_hex(4)
    log.error("error id %s on %s %s", error_id, request.method, request.path)
    if _for_a_program(request):
        detail = f"Berth made a mistake. Try once more; if it stays, tell an admin the id {error_id}."
        return plain_problem(status=500, code="broken", detail=detail, error_id=error_id)
    _forget_who_asks(request)
    return _page(
        request,
        headline="Berth made a mistake",
        sentence="This page could not be made. Try once more; if it stays, tell an admin the id below.",
        status=500,
        error_id=error_id,
    )


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """What Django itself refuses before any view is asked: a host name that is not ours, a form beyond all measure."""
    sentence = "This request could not be read, so nothing was changed; go back and try again."
    if isinstance(exception, DisallowedHost):
        sentence = (
            "The portal is not served under this host name; use its own address, or let an admin set BERTH_PORTAL_URL."
        )
    elif isinstance(exception, RequestDataTooBig):
        sentence = "What was sent is larger than the portal takes, so nothing was changed; send less."
    elif isinstance(exception, (TooManyFieldsSent, TooManyFilesSent)):
        sentence = "What was sent has more fields than the portal takes, so nothing was changed; send fewer."
    if _for_a_program(request):
        return plain_problem(status=400, code="bad-request", detail=sentence)
    return _page(request, headline="Not like this", sentence=sentence, status=400)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form from before the last log-in, mostly. What was typed for a launch is kept; nothing has been changed."""
    if request.path == "/launch":
        typed = [(k, v) for k, v in request.POST.items() if k not in ("csrfmiddlewaretoken", "launch_key")]
        return HttpResponseRedirect("/launch?" + urlencode([*typed, ("stale", "1")]))
    if request.path == "/login":
        return HttpResponseRedirect("/login?" + urlencode({"next": request.POST.get("next", ""), "stale": "1"}))
    return _page(
        request,
        headline="This page was out of date",
        sentence="It was opened before your last log-in, so nothing was changed. Open it again, then repeat it.",
        status=403,
    )


def _forget_who_asks(request: HttpRequest) -> None:
    """The page about an error must not ask the database for the person and his messages, and fail at that again."""
    request.user = AnonymousUser()
    request.__dict__.pop("_messages", None)


def _for_a_program(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def _page(request: HttpRequest, *, headline: str, sentence: str, status: int, error_id: str = "") -> HttpResponse:
    facts = {"headline": headline, "sentence": sentence, "error_id": error_id}
    return render(request, "portal/message.html", facts, status=status)
