from django.urls import path

from workspaces.web import views

urlpatterns = [
    path("", views.home, name="home"),
    path("_workspaces", views.workspaces_fragment, name="workspaces_fragment"),
    path("launch", views.launch, name="launch"),
    path("w/<slug:workspace_id>", views.workspace, name="workspace"),
    path("w/<slug:workspace_id>/_status", views.status_fragment, name="status_fragment"),
    path("w/<slug:workspace_id>/start", views.start, name="start"),
    path("w/<slug:workspace_id>/stop", views.stop, name="stop"),
    path("w/<slug:workspace_id>/delete", views.delete, name="delete"),
    path("w/<slug:workspace_id>/open", views.open_workspace, name="open"),
]
