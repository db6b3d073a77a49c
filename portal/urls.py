"""Every address of the portal, by app."""

from django.urls import include, path

urlpatterns = [
    path("", include("portal.pages.urls")),
    path("", include("workspaces.web.urls")),
    path("api/v1/", include("workspaces.api.urls")),
]

handler404 = "portal.pages.errors.not_found"
handler500 = "portal.pages.errors.broken"
