"""Running machines by program: the same questions as on the pages, with a token of somebody who may."""

from datetime import datetime, timedelta
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from portal.kernel import clock
from scheduling import drains, gpu_health, selectors
from scheduling.node_details import DrainView, JobLine, MoveLine, NodeDetail, drain_view, node_detail
from scheduling.selectors import NodeView
from tenants.permissions import may_run_nodes

LONGEST_S = 30 * 86_400


class DrainInput(serializers.Serializer[Any]):
    """`within_s`: what is left after so many seconds is stopped; without it, it runs to its end."""

    within_s = serializers.IntegerField(min_value=1, max_value=LONGEST_S, required=False, allow_null=True)


class NodeList(APIView):
    def get(self, request: Request) -> Response:
        if not may_run_nodes(request.user):
            raise NotFound
        return Response({"results": [_node_out(view) for view in selectors.node_map(now=clock.now())]})


class NodeItem(APIView):
    def get(self, request: Request, name: str) -> Response:
        return _answer(request, name)


class NodeDrain(APIView):
    def get(self, request: Request, name: str) -> Response:
        """The plan, as `?within_s=` asks; nothing is changed."""
        now = clock.now()
        until = _until(request.query_params, now)
        plan = drains.show_drain(by=request.user, name=name, until=until, now=now)
        return Response(_plan_out(drain_view(plan, now=now)))

    def post(self, request: Request, name: str) -> Response:
        """Carry it out; answers the node."""
        now = clock.now()
        drains.drain_node(by=request.user, name=name, until=_until(request.data, now), now=now)
        return _answer(request, name)


class NodeCordon(APIView):
    def post(self, request: Request, name: str) -> Response:
        drains.cordon_node(by=request.user, name=name)
        return _answer(request, name)


class NodeReturn(APIView):
    def post(self, request: Request, name: str) -> Response:
        drains.return_node(by=request.user, name=name)
        return _answer(request, name)


class GpuClear(APIView):
    def post(self, request: Request, name: str, uuid: str) -> Response:
        """A person says that the card was put right."""
        drains.machine_of(request.user, name)
        gpu_health.clear_quarantine(by=request.user, node=name, uuid=uuid)
        return _answer(request, name)


def _until(data: Any, now: datetime) -> datetime | None:
    form = DrainInput(data=data)
    form.is_valid(raise_exception=True)
    within_s = form.validated_data.get("within_s")
    return None if within_s is None else now + timedelta(seconds=within_s)


def _answer(request: Request, name: str) -> Response:
    detail = node_detail(drains.machine_of(request.user, name), now=clock.now())
    return Response(_detail_out(detail))


def _node_out(view: NodeView) -> dict[str, Any]:
    return {
        "name": view.name,
        "state": view.state,
        "pool": view.pool,
        "accepts_work": view.accepts,
        "gpus": len(view.gpus),
        "gpus_free": view.free_gpus,
        "gpus_in_quarantine": view.sick_gpus,
        "seconds_since_report": view.age_s,
        "agent": view.agent,
        "trouble": view.trouble,
    }


def _detail_out(detail: NodeDetail) -> dict[str, Any]:
    return {
        **_node_out(detail.view),
        "asked_for": detail.asked_for,
        "drain_by": detail.drain_by,
        "cards": [
            {
                "uuid": card.uuid,
                "index": card.index,
                "model": card.view.model,
                "island": card.island or None,
                "numa_node": card.numa,
                "pci": card.pci,
                "held": card.view.held,
                "quarantine": card.reason,
                "quarantined_at": card.since,
            }
            for card in detail.cards
        ],
        "jobs": [_job_out(job) for job in detail.jobs],
        "errors": [
            {"at": event.at, "gpu": event.gpu.uuid, "xid": event.xid, "job": event.job_id, "message": event.sentence}
            for event in detail.events
        ],
    }


def _job_out(job: JobLine) -> dict[str, Any]:
    return {"id": job.id, "name": job.name, "owner": job.owner, "team": job.team, "state": job.state, "gpus": job.gpus}


def _move_out(move: MoveLine) -> dict[str, Any]:
    evicts = [_job_out(job) for job in move.evicts]
    return {
        "job": _job_out(move.job),
        "to": list(move.to),
        "evicts": evicts,
        "why": move.why,
        "starts_at": move.starts_at,
    }


def _plan_out(plan: DrainView) -> dict[str, Any]:
    return {
        "moves": [_move_out(move) for move in plan.moves],
        "waits": [_move_out(move) for move in plan.waits],
        "stays": [{"job": _job_out(s.job), "until": s.until, "leaves": s.leaves} for s in plan.stays],
        "delayed": [_job_out(job) for job in plan.delayed],
        "empty_by": plan.empty_by,
    }
