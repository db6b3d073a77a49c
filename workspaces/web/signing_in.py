"""Pages for people who are logged in; everybody else is led to the log-in page and back to where they were."""

from collections.abc import Callable
from functools import wraps
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from workspaces.web.launch_form import FIELDS

View = Callable[..., HttpResponse]


def signed_in(view: View) -> View:
    """A fragment answers with HX-Redirect, or the log-in page would be swapped into the middle of a page."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        if getattr(request, "htmx", False):
            back = request.htmx.current_url_abs_path or "/"  # type: ignore[attr-defined]
            return HttpResponse(status=204, headers={"HX-Redirect": _log_in(back)})
        return HttpResponseRedirect(_log_in(_way_back(request)))

    return guarded


def _way_back(request: HttpRequest) -> str:
    """A POST cannot be repeated after a log-in; a launch comes back as its filled form, the rest as their page."""
    if request.method != "POST":
        return request.get_full_path()
    if request.path == "/launch":
        return "/launch?" + urlencode({name: request.POST[name] for name in FIELDS if name in request.POST})
    return request.path.rsplit("/", 1)[0] or "/"


def _log_in(target: str) -> str:
    return "/login?" + urlencode({"next": target})
