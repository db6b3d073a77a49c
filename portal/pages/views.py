"""Log in, log out, and whether this process is ready."""

import logging
from math import ceil

from django import forms
from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal import health
from portal.kernel import clock
from portal.kernel.publish import publish
from portal.pages.login_limits import forgive, seconds_to_wait

log = logging.getLogger("berth.login")

WRONG = "This user name and password do not belong together. Check both and try again."


class _Credentials(forms.Form):
    """Parsing only. The password is taken as it is, spaces too."""

    username = forms.CharField(max_length=150)
    password = forms.CharField(max_length=4096, strip=False)


@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def log_in(request: HttpRequest) -> HttpResponse:
    given = request.POST if request.method == "POST" else request.GET
    target = _local(request, given.get("next", ""))
    if request.method != "POST":
        if request.user.is_authenticated:
            return HttpResponseRedirect(target)
        problem = "This page was out of date. Log in once more." if "stale" in request.GET else ""
        return _form(request, target=target, problem=problem)
    typed = _Credentials(request.POST)
    if not typed.is_valid():
        return _form(request, target=target, problem=WRONG, status=422)
    username, now = typed.cleaned_data["username"], clock.now()
    address = request.META.get("REMOTE_ADDR", "")
    wait = seconds_to_wait(username=username, address=address, now=now)
    if wait:
        minutes = ceil(wait / 60)
        sentence = f"Too many failed attempts. Wait {minutes} minute{'' if minutes == 1 else 's'} and try again."
        log.warning("log-in refused for a while: user=%r from=%s", username, address)
        response = _form(request, target=target, problem=sentence, status=429)
        response["Retry-After"] = str(wait)
        return response
    user = authenticate(request, username=username, password=typed.cleaned_data["password"])
    if user is None:
        log.info("log-in failed: user=%r from=%s", username, address)
        return _form(request, target=target, problem=WRONG, status=422)
    forgive(username=username, address=address, now=now)
    login(request, user)
    return HttpResponseRedirect(target)


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    key = request.session.session_key
    logout(request)
    if key:  # its sockets and its way into workspaces end with it
        publish("gateway", "all", session=key)
    return HttpResponseRedirect("/login")


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """200 when everything that this process needs is ready, else 503 with a sentence per part."""
    troubles = health.troubles()
    response = JsonResponse({"ready": not troubles, "troubles": troubles}, status=503 if troubles else 200)
    # Django would log an ERROR, without the reason, for each probe of a portal that starts.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response


def _local(request: HttpRequest, target: str) -> str:
    """Where to go afterwards, if that is a page of ours."""
    hosts = {request.get_host()}
    ours = url_has_allowed_host_and_scheme(target, allowed_hosts=hosts, require_https=request.is_secure())
    return target if ours and not target.startswith("/login") else "/"


def _form(request: HttpRequest, *, target: str, problem: str, status: int = 200) -> HttpResponse:
    facts = {
        "next": target,
        "problem": problem,
        "username": request.POST.get("username", "")[:150],
        "launching": not problem and target.startswith("/launch?"),
    }
    return render(request, "portal/login.html", facts, status=status)
