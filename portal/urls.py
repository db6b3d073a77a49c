"""Every address of the portal, by app."""

from django.urls import include, path, re_path

from portal.api_errors import no_such_call

urlpatterns = [
    path("", include("portal.pages.urls")),
    path("", include("scheduling.web.urls")),
    path("", include("workspaces.web.urls")),
    path("api/v1/", include("workspaces.api.urls")),
    path("api/v1/", include("scheduling.api.urls")),
    re_path("^api/", no_such_call),
]

handler400 = "portal.pages.errors.bad_request"
handler404 = "portal.pages.errors.not_found"
handler500 = "portal.pages.errors.broken"
