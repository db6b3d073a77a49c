"""What a person sees when a page cannot be shown: one sentence, and the way on."""

import logging
import secrets
from collections.abc import Callable
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render

from portal.kernel.errors import BerthError, Missing

log = logging.getLogger("berth.pages")

NOT_FOUND = "There is nothing at this address, or nothing that you may see."


class BerthErrorPages:
    """Turns an error of the domain that no view expected into a page with the family's status."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, BerthError) or error.status == 500:
            return None
        if isinstance(error, Missing):
            return not_found(request)
        return _page(request, headline="That did not work", sentence=error.sentence, status=error.status)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """The same page for what never was, what is gone and what is somebody else's."""
    return _page(request, headline="Not found", sentence=NOT_FOUND, status=404)


def broken(request: HttpRequest) -> HttpResponse:
    """A bug. Django has logged the traceback; the id ties this page to the line beside it."""
    error_id = secrets.token_hex(4)
    log.error("error id %s on %s %s", error_id, request.method, request.path)
    return _page(
        request,
        headline="Berth made a mistake",
        sentence="This page could not be made. Try once more; if it stays, tell an admin the id below.",
        status=500,
        error_id=error_id,
    )


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


def _page(request: HttpRequest, *, headline: str, sentence: str, status: int, error_id: str = "") -> HttpResponse:
    facts = {"headline": headline, "sentence": sentence, "error_id": error_id}
    return render(request, "portal/message.html", facts, status=status)
