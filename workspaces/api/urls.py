from django.urls import path

from workspaces.api import views

urlpatterns = [
    path("workspaces", views.WorkspaceList.as_view(), name="api-workspaces"),
    path("workspaces/<str:workspace_id>", views.WorkspaceItem.as_view(), name="api-workspace"),
    path("workspaces/<str:workspace_id>/start", views.WorkspaceStart.as_view(), name="api-workspace-start"),
    path("workspaces/<str:workspace_id>/stop", views.WorkspaceStop.as_view(), name="api-workspace-stop"),
]
