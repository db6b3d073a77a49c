"""The workspace API's edge: parse, one call, render."""

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from portal.kernel import clock
from workspaces import selectors, services
from workspaces.api.serializers import LaunchInput, workspace_out
from workspaces.choices import launch_choices


class WorkspaceList(APIView):
    def get(self, request: Request) -> Response:
        views = selectors.workspaces_of(request.user, now=clock.now())
        return Response({"results": [workspace_out(view) for view in views]})

    def post(self, request: Request) -> Response:
        """Launch; without an image, the one that the form would offer.

        An `Idempotency-Key` header makes a repeated request answer the same workspace.
        """
        form = LaunchInput(data=request.data)
        form.is_valid(raise_exception=True)
        sizes = form.validated_data
        now = clock.now()
        workspace = services.launch_workspace(
            by=request.user,
            team=sizes["team"],
            image=sizes["image"] or launch_choices(request.user, now=now).last.image,
            name=sizes["name"],
            gpus=sizes["gpus"],
            cpu_millis=round(sizes["cpus"] * 1000),
            memory_mib=round(sizes["memory_gib"] * 1024),
            launch_key=request.headers.get("Idempotency-Key", ""),
            now=now,
        )
        return _answer(request, workspace.pk, status=201)


class WorkspaceItem(APIView):
    def get(self, request: Request, workspace_id: str) -> Response:
        return _answer(request, workspace_id)

    def delete(self, request: Request, workspace_id: str) -> Response:
        workspace = selectors.workspace_of(request.user, workspace_id)
        services.delete_workspace(by=request.user, workspace=workspace, now=clock.now())
        return Response(status=204)


class WorkspaceStart(APIView):
    def post(self, request: Request, workspace_id: str) -> Response:
        workspace = selectors.workspace_of(request.user, workspace_id)
        services.start_workspace(by=request.user, workspace=workspace, now=clock.now())
        return _answer(request, workspace_id)


class WorkspaceStop(APIView):
    def post(self, request: Request, workspace_id: str) -> Response:
        workspace = selectors.workspace_of(request.user, workspace_id)
        services.stop_workspace(by=request.user, workspace=workspace, now=clock.now())
        return _answer(request, workspace_id)


def _answer(request: Request, workspace_id: str, status: int = 200) -> Response:
    view = selectors.workspace_view(request.user, workspace_id, now=clock.now())
    return Response(workspace_out(view), status=status)
