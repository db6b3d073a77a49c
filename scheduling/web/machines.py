"""The pages on which machines are run: all, one, and what may be asked of each. Parse, one call, render.

Whatever takes something from somebody is asked first, on a page of its own that says what it does to whom.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_safe

from portal.kernel import clock
from portal.kernel.errors import BerthError, Rejected
from scheduling import drains, enrolment, gpu_health, node_life, selectors
from scheduling.node_details import NodeDetail, drain_view, node_detail
from scheduling.web.staff import for_staff, person

MOST_HOURS = 24 * 30


class NotHours(Rejected):
    """The number of hours must be from 1 to {most}, or empty."""

    field = "hours"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked before it is done. `effects`: what it does, a sentence each; `danger`: it takes something away."""

    title: str
    effects: tuple[str, ...]
    verb: str
    danger: bool = False


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff
def machines(request: HttpRequest) -> HttpResponse:
    """All machines; and the form that makes a token for a new one, which is shown this once."""
    if request.method != "POST":
        return render(request, "scheduling/machines.html", _all())
    name, pool = request.POST.get("name", "").strip(), request.POST.get("pool", "").strip()
    try:
        token = enrolment.create_join_token(name=name, pool=pool, simulated=0, now=clock.now())
    except BerthError as error:
        facts = {**_all(), "error": error.sentence, "name": name, "pool": pool}
        return render(request, "scheduling/machines.html", facts, status=error.status)
    facts = {"name": name, "token": token, "url": request.build_absolute_uri("/").rstrip("/")}
    return render(request, "scheduling/token.html", {**facts, "lifetime": enrolment.TOKEN_LIFETIME})


@require_safe
@for_staff
def machines_fragment(request: HttpRequest) -> HttpResponse:
    return render(request, "scheduling/_machines.html", _all())


@require_safe
@for_staff
def machine(request: HttpRequest, name: str) -> HttpResponse:
    return render(request, "scheduling/machine.html", {"node": _one(request, name)})


@require_safe
@for_staff
def machine_fragment(request: HttpRequest, name: str) -> HttpResponse:
    return render(request, "scheduling/_machine.html", {"node": _one(request, name)})


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff
def drain(request: HttpRequest, name: str) -> HttpResponse:
    """The plan, for the hours that were asked for; confirming it does what the plan of that moment says."""
    now = clock.now()
    if request.method == "POST":
        drains.drain_node(by=person(request), name=name, until=_until(request.POST.get("hours", ""), now), now=now)
        messages.success(request, f"{name} is being emptied.")
        return HttpResponseRedirect(f"/nodes/{name}")
    hours = request.GET.get("hours", "").strip()
    facts: dict[str, object] = {"name": name, "hours": hours, "most": MOST_HOURS}
    try:
        until = _until(hours, now)
    except NotHours as error:
        drains.machine_of(person(request), name)
        return render(request, "scheduling/drain.html", {**facts, "error": error.sentence}, status=error.status)
    plan = drains.show_drain(by=person(request), name=name, until=until, now=now)
    return render(request, "scheduling/drain.html", {**facts, "until": until, "plan": drain_view(plan, now=now)})


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff
def cordon(request: HttpRequest, name: str) -> HttpResponse:
    if request.method == "POST":
        drains.cordon_node(by=person(request), name=name)
        return _done(request, name, f"Nothing new starts on {name}.")
    effects = (
        "Nothing new starts there; jobs that wait for it look for another machine.",
        "What runs there goes on, untouched.",
        "Its free GPUs count for nobody's guarantee until it is returned.",
    )
    return _ask(request, name, Question(f"Start nothing new on {name}?", effects, "Cordon it"))


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff
def give_back(request: HttpRequest, name: str) -> HttpResponse:
    if request.method == "POST":
        drains.return_node(by=person(request), name=name)
        return _done(request, name, f"{name} takes work again.")
    effects = ("It takes work again, from the next cycle on.", "What has been sent away from it does not come back.")
    return _ask(request, name, Question(f"Return {name} to service?", effects, "Return it"))


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff
def gone(request: HttpRequest, name: str) -> HttpResponse:
    """Typed, not clicked: if the machine still runs, two may write to one volume."""
    now = clock.now()
    drains.machine_of(person(request), name)
    if request.method == "POST" and request.POST.get("typed", "").strip() == name:
        freed = node_life.confirm_switched_off(name=name, now=now)
        return _done(request, name, f"{freed} container{'s' if freed != 1 else ''} of {name} count as ended.")
    effects = (
        "All that it held counts as free, volumes included, and may start elsewhere at once.",
        "If the machine still runs, two programs may then write to the same volume and destroy what is on it.",
    )
    question = Question(f"Is {name} switched off, or its network unplugged?", effects, "It is off", danger=True)
    wrong = request.method == "POST"
    return _ask(request, name, question, typed=True, error="Type the machine's name to confirm." if wrong else "")


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff
def clear(request: HttpRequest, name: str, uuid: str) -> HttpResponse:
    if request.method == "POST":
        gpu = gpu_health.clear_quarantine(by=person(request), node=name, uuid=uuid)
        return _done(request, name, f"GPU {gpu.index} comes back with the next check that finds nothing wrong.")
    node = _one(request, name)
    card = next((card for card in node.cards if card.uuid == uuid), None)
    if card is None:
        raise gpu_health.NoSuchGpu(uuid=uuid, node=name)
    if not card.reason:
        raise gpu_health.NotQuarantined(index=card.index, node=name)
    effects = (
        f"It is in quarantine because: {card.reason}",
        "With the next check that finds nothing wrong it takes work again. Confirm only what was put right, by a reset "
        "of the card as a rule.",
    )
    return _ask(request, name, Question(f"Was GPU {card.index} of {name} put right?", effects, "It was put right"))


def _all() -> dict[str, object]:
    now = clock.now()
    nodes = selectors.node_map(now=now)
    return {"nodes": nodes, "now": now, "pools": sorted({node.pool for node in nodes})}


def _one(request: HttpRequest, name: str) -> NodeDetail:
    return node_detail(drains.machine_of(person(request), name), now=clock.now())


def _until(hours: str, now: datetime) -> datetime | None:
    """`hours` from now; None for an empty text. Raises NotHours."""
    text = hours.strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 4 or not 1 <= int(text) <= MOST_HOURS:
        raise NotHours(most=MOST_HOURS)
    return now + timedelta(hours=int(text))


def _ask(request: HttpRequest, name: str, question: Question, **more: object) -> HttpResponse:
    drains.machine_of(person(request), name)
    facts = {"question": question, "name": name, **more}
    return render(request, "scheduling/ask.html", facts, status=422 if more.get("error") else 200)


def _done(request: HttpRequest, name: str, sentence: str) -> HttpResponse:
    messages.success(request, sentence)
    return HttpResponseRedirect(f"/nodes/{name}")
