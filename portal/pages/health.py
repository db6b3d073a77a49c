"""/healthz: 200 when everything is ready, else 503 with what is not."""

from django.http import HttpRequest, JsonResponse

from portal import health


def healthz(request: HttpRequest) -> JsonResponse:
    troubles = health.troubles()
    return JsonResponse({"ready": not troubles, "troubles": troubles}, status=503 if troubles else 200)
