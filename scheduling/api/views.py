"""The nodes' edge: parse, one call, answer."""

from dataclasses import replace

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from portal.kernel import clock
from portal.kernel.errors import Rejected
from scheduling import enrolment, far_nodes
from scheduling.api.authentication import NodeKeyAuthentication
from scheduling.api.messages import MOST_BYTES, TooLarge, answer, read_report
from scheduling.models import Enrolment


class BadJoin(Rejected):
    """A join must say `token` as a text and `simulated` as a whole number."""


class NodeJoin(APIView):
    """The token is the permission."""

    authentication_classes = ()
    permission_classes = ()

    def post(self, request: Request) -> Response:
        data = request.data if isinstance(request.data, dict) else {}
        token, simulated = data.get("token"), data.get("simulated", 0)
        if not isinstance(token, str) or type(simulated) is not int:
            raise BadJoin()
        joined = enrolment.join(token=token, simulated=simulated, now=clock.now())
        return Response({"nodes": [{"node": one.node, "key": one.key} for one in joined]})


class NodeExchange(APIView):
    authentication_classes = (NodeKeyAuthentication,)
    permission_classes = ()

    def post(self, request: Request) -> Response:
        """Takes a report and answers what should run, with the parts left out where the agent holds them already."""
        if int(request.META.get("CONTENT_LENGTH") or 0) > MOST_BYTES:
            raise TooLarge(most=MOST_BYTES // 2**20)
        node = request.auth
        assert isinstance(node, Enrolment)
        report = read_report(request.data)
        if report.held_epoch != node.epoch:
            report = replace(report, held_version=0)  # of an epoch that is over
        desired, unchanged = far_nodes.exchange(node, report, now=clock.now())
        return Response(answer(desired, unchanged=unchanged))
