"""The pages of workspaces. Parse, one call, render."""

import secrets
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal.kernel import clock
from portal.kernel.errors import BerthError, Missing
from workspaces import selectors, services
from workspaces.choices import launch_choices
from workspaces.web.launch_form import LaunchForm, launch_form, launch_key
from workspaces.web.presenting import card_of, counted, edition, pace, said
from workspaces.web.signing_in import signed_in


@require_safe
@signed_in
def home(request: HttpRequest) -> HttpResponse:
    choices = launch_choices(request.user, now=clock.now())
    facts = {"choices": choices, "form": launch_form({}, choices), "launch_key": _new_key(), **_rack(request)}
    return render(request, "workspaces/home.html", facts)


@require_safe
@signed_in
def workspaces_fragment(request: HttpRequest) -> HttpResponse:
    return _fragment(request, "workspaces/_workspaces.html", _rack(request))


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def launch(request: HttpRequest) -> HttpResponse:
    """The form, which a query string fills in; and what it sends."""
    now = clock.now()
    typed = request.POST if request.method == "POST" else request.GET
    choices = launch_choices(request.user, now=now)
    form = launch_form(typed.dict(), choices)
    if request.method != "POST":
        return _launch_page(request, form, stale="stale" in request.GET)
    ask = form.ask
    if ask is None:
        return _launch_page(request, form, status=422)
    try:
        workspace = services.launch_workspace(
            by=request.user,
            team=ask.team,
            image=ask.image,
            gpus=ask.gpus,
            cpu_millis=ask.cpu_millis,
            memory_mib=ask.memory_mib,
            name=ask.name,
            launch_key=launch_key(request.POST),
            now=now,
        )
    except BerthError as error:
        form.refuse(field=error.field, sentence=error.sentence)
        return _launch_page(request, form, status=error.status)
    return HttpResponseRedirect(f"/w/{workspace.pk}?open=1")


@require_safe
@signed_in
def workspace(request: HttpRequest, workspace_id: str) -> HttpResponse:
    return render(request, "workspaces/workspace.html", _one(request, workspace_id))


@require_safe
@signed_in
def status_fragment(request: HttpRequest, workspace_id: str) -> HttpResponse:
    return _fragment(request, "workspaces/_status.html", _one(request, workspace_id))


@require_POST
@signed_in
def start(request: HttpRequest, workspace_id: str) -> HttpResponse:
    return _change(request, workspace_id, services.start_workspace, then=f"/w/{workspace_id}?open=1")


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def stop(request: HttpRequest, workspace_id: str) -> HttpResponse:
    """Asked first, as a page or in a dialog, when something runs that would be lost; Cancel posts straight away."""
    if request.method == "POST":
        back = "/" if request.POST.get("back") == "home" else f"/w/{workspace_id}"
        return _change(request, workspace_id, services.stop_workspace, then=back)
    w = selectors.workspace_view(request.user, workspace_id, now=clock.now())
    question = Question(
        title=f"Stop {w.name}?",
        lost="its running kernels and terminals, what they hold in memory, and edits that were not saved.",
        stays=f"your home folder {w.home} with every file in it, and this entry: start it again whenever you like.",
        verb="Stop",
        action=f"/w/{w.id}/stop",
        cancel=f"/w/{w.id}",
    )
    return _ask(request, question)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def delete(request: HttpRequest, workspace_id: str) -> HttpResponse:
    w = selectors.workspace_view(request.user, workspace_id, now=clock.now())
    if request.method == "POST":
        response = _change(request, workspace_id, services.delete_workspace, then="/")
        if response.status_code == 302:
            messages.success(request, f"{w.name} is deleted. Your home folder {w.home} is untouched.")
        return response
    if w.status not in ("stopped", "failed"):
        return _problem(request, workspace_id, services.StillRunning())
    question = Question(
        title=f"Delete {w.name}?",
        lost="this entry, with its settings and the record of its last start.",
        stays=f"your home folder {w.home} with every file in it; the next workspace in {w.team} opens it again.",
        verb="Delete",
        action=f"/w/{w.id}/delete",
        cancel=f"/w/{w.id}",
    )
    return _ask(request, question)


@require_POST
@signed_in
def open_workspace(request: HttpRequest, workspace_id: str) -> HttpResponse:
    """Into the workspace, by a ticket that works once."""
    row = selectors.workspace_of(request.user, workspace_id)
    key = request.session.session_key or ""
    try:
        url = services.ticket_url(by=request.user, workspace=row, session_key=key, now=clock.now())
    except Missing:
        raise
    except BerthError as error:
        return _problem(request, workspace_id, error)
    return HttpResponse(status=303, headers={"Location": url, "Referrer-Policy": "no-referrer"})


@dataclass(frozen=True, slots=True)
class Question:
    """What is lost and what stays, before something is destroyed."""

    title: str
    lost: str
    stays: str
    verb: str
    action: str
    cancel: str


def _ask(request: HttpRequest, question: Question) -> HttpResponse:
    facts = {"confirm": question, "back": request.GET.get("back", "")}
    in_dialog = getattr(request, "htmx", False)
    return render(request, "workspaces/_confirm.html" if in_dialog else "workspaces/confirm.html", facts)


def _change(request: HttpRequest, workspace_id: str, act: Any, *, then: str) -> HttpResponse:
    row = selectors.workspace_of(request.user, workspace_id)
    try:
        act(by=request.user, workspace=row, now=clock.now())
    except Missing:
        raise
    except BerthError as error:
        return _problem(request, workspace_id, error)
    return HttpResponseRedirect(then)


def _problem(request: HttpRequest, workspace_id: str, error: BerthError) -> HttpResponse:
    facts = {**_one(request, workspace_id), "problem": error.sentence}
    return render(request, "workspaces/workspace.html", facts, status=error.status)


def _launch_page(request: HttpRequest, form: LaunchForm, *, status: int = 200, stale: bool = False) -> HttpResponse:
    facts = {"choices": form.choices, "form": form, "launch_key": _new_key(), "stale_page": stale}
    return render(request, "workspaces/launch.html", facts, status=status)


def _rack(request: HttpRequest) -> dict[str, Any]:
    """What `_workspaces.html` shows."""
    now = clock.now()
    cards = [card_of(w, now=now) for w in selectors.workspaces_of(request.user, now=now)]
    return {
        "cards": cards,
        "counted": counted(cards),
        "edition": edition(cards),
        "pace": pace(cards),
        "topics": "person.me",
        "say": ". ".join(f"{card.workspace.name}: {card.look.word}" for card in cards if card.moving or card.can_stop),
        "stamp": now.timestamp(),
    }


def _one(request: HttpRequest, workspace_id: str) -> dict[str, Any]:
    """What `_status.html` shows."""
    now = clock.now()
    card = card_of(selectors.workspace_view(request.user, workspace_id, now=now), now=now)
    return {
        "w": card.workspace,
        "card": card,
        "edition": edition([card]),
        "pace": pace([card]),
        "say": said(card),
        "stamp": now.timestamp(),
    }


def _fragment(request: HttpRequest, template: str, facts: dict[str, Any]) -> HttpResponse:
    """304 when the page already shows this edition."""
    etag = f'"{facts["edition"]}"'
    if etag in request.headers.get("If-None-Match", ""):
        return HttpResponseNotModified(headers={"ETag": etag})
    response = render(request, template, facts)
    response["ETag"] = etag
    return response


def _new_key() -> str:
    """Names one rendering of the form: sending it twice launches one workspace."""
    return secrets.token_urlsafe(16)
