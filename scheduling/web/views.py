"""The machines and their GPUs, for everybody who may sign in, and the scheduler itself, for admins. Parse, one call,
render."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from portal.kernel import clock
from scheduling import selectors
from scheduling.records.cycles import loop_status
from scheduling.web.staff import for_staff


@require_safe
@login_required
def cluster(request: HttpRequest) -> HttpResponse:
    return render(request, "scheduling/cluster.html", _facts())


@require_safe
@login_required
def nodes_fragment(request: HttpRequest) -> HttpResponse:
    return render(request, "scheduling/_nodes.html", _facts())


@require_safe
@for_staff
def scheduler(request: HttpRequest) -> HttpResponse:
    return render(request, "scheduling/scheduler.html", _loop())


@require_safe
@for_staff
def loop_fragment(request: HttpRequest) -> HttpResponse:
    return render(request, "scheduling/_loop.html", _loop())


def _loop() -> dict[str, object]:
    return {"loop": loop_status(now=clock.now())}


def _facts() -> dict[str, object]:
    now = clock.now()
    return {"nodes": selectors.node_map(now=now), "now": now}
