"""Where HTTP meets errors: every error of the API is problem+json (RFC 9457) with a stable code and one sentence."""

from typing import Any

from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.response import Response

from portal.kernel.errors import BerthError
from portal.outages import outage


def problem(*, status: int, code: str, detail: str, **more: Any) -> Response:
    body = {"type": f"urn:berth:{code}", "code": code, "status": status, "detail": detail, **more}
    return Response(body, status=status, content_type="application/problem+json")


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. None lets what nobody foresaw become a logged 500."""
    if isinstance(error, RecursionError):
        return problem(status=400, code="parse_error", detail="The JSON is nested too deeply.")
    if isinstance(error, BerthError):
        more = {"field": error.field} if error.field else {}
        return problem(status=error.status, code=error.code, detail=error.sentence, **more)
    if isinstance(error, Http404):
        return problem(status=404, code="not-found", detail="There is nothing here, or nothing that you may see.")
    if isinstance(error, exceptions.ValidationError):
        return _invalid(error)
    if isinstance(error, exceptions.APIException):
        response = problem(status=error.status_code, code=str(error.default_code), detail=str(error.detail))
        if header := getattr(error, "auth_header", None):
            response["WWW-Authenticate"] = header
        return response
    if sentence := outage(error):
        return problem(status=503, code="unavailable", detail=sentence)
    return None


def _invalid(error: exceptions.ValidationError) -> Response:
    """The first thing that is wrong as the sentence, all of them by field."""
    detail = error.detail
    fields = detail if isinstance(detail, dict) else {"": detail}
    first, sentences = next(iter(fields.items()))
    while isinstance(sentences, (list, dict)) and sentences:
        sentences = sentences[0] if isinstance(sentences, list) else next(iter(sentences.values()))
    sentence = f"{first}: {sentences}" if first and first != "non_field_errors" else str(sentences)
    return problem(status=422, code="invalid", detail=sentence, field=first, fields=fields)


@csrf_exempt
def no_such_call(request: HttpRequest) -> JsonResponse:
    """An address below /api/ that is none: programs get their problem+json, not a page."""
    return plain_problem(status=404, code="no-such-call", detail=f"The API has no {request.path[:200]}.")


def plain_problem(*, status: int, code: str, detail: str, **more: Any) -> JsonResponse:
    """The same document for what goes wrong before or outside of the API's own views."""
    body = {"type": f"urn:berth:{code}", "code": code, "status": status, "detail": detail, **more}
    return JsonResponse(body, status=status, content_type="application/problem+json")
