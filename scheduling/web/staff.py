"""Pages for those who run the machines; to anybody else there is nothing at these addresses."""

from collections.abc import Callable
from functools import wraps

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse

from tenants.models import User
from tenants.permissions import may_run_nodes

View = Callable[..., HttpResponse]


def for_staff(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if not may_run_nodes(person(request)):
            raise Http404
        return view(request, *args, **kwargs)

    return login_required(guarded)


def person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
