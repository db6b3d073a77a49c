"""The job API's edge: parse, one call, render."""

from typing import Any, cast

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from portal.kernel import clock
from portal.kernel.errors import BerthError, Rejected
from scheduling import intake, job_board
from scheduling.api.job_input import JobInput, spec_of
from scheduling.api.job_output import job_out, row_out, why_out
from scheduling.job_board import MOST_PER_PAGE
from scheduling.models import Job
from scheduling.services import Once
from tenants.models import User

#: made once: it keeps nothing of what it reads, and copying its fields costs as much as reading with them
FORM = JobInput()
MOST_JOBS = 5_000
MOST_BYTES = 16 * 1024 * 1024


class NoList(Rejected):
    """Send a list of 1 to {most} jobs."""


class TooLarge(BerthError):
    """A list of jobs may have {most} MiB at most."""

    status = 413


class ListInput(serializers.Serializer[dict[str, Any]]):
    """What of the list is wanted. state: one or more, with commas between. cursor: `next` of the page before."""

    team = serializers.CharField(max_length=60, default="", allow_blank=True)
    owner = serializers.CharField(max_length=150, default="", allow_blank=True)
    state = serializers.CharField(max_length=200, default="", allow_blank=True)
    array = serializers.IntegerField(min_value=1, max_value=2**62, default=None)
    cursor = serializers.IntegerField(min_value=1, max_value=2**62, default=None)
    limit = serializers.IntegerField(min_value=1, max_value=MOST_PER_PAGE, default=50)


class JobList(APIView):
    def get(self, request: Request) -> Response:
        form = ListInput(data=request.query_params)
        form.is_valid(raise_exception=True)
        asked = form.validated_data
        jobs = job_board.jobs_page(
            person(request),
            team=asked["team"],
            owner=asked["owner"],
            states=[state.strip() for state in asked["state"].split(",") if state.strip()],
            array=asked["array"],
            before=asked["cursor"],
            limit=asked["limit"] + 1,
        )
        shown, more = jobs[: asked["limit"]], len(jobs) > asked["limit"]
        counts = job_board.task_counts(shown)
        return Response(
            {"results": [row_out(job, counts) for job in shown], "next": str(shown[-1].pk) if more else None}
        )

    def post(self, request: Request) -> Response:
        """Submit. An `Idempotency-Key` header makes a repeated request answer the same job."""
        by, asked = person(request), FORM.run_validation(request.data)
        job = intake.submit(by=by, request=_wish(asked), once=once(request), now=clock.now())
        return Response(_shown(job), status=201)


class JobBatch(APIView):
    def post(self, request: Request) -> Response:
        """Submit a list of jobs, all or none. Answers their ids in the same order."""
        if int(request.META.get("CONTENT_LENGTH") or 0) > MOST_BYTES:
            raise TooLarge(most=MOST_BYTES // 2**20)
        data = request.data
        if not isinstance(data, list) or not 0 < len(data) <= MOST_JOBS:
            raise NoList(most=f"{MOST_JOBS:,}")
        wishes = []
        for index, item in enumerate(data):
            try:
                wishes.append(_wish(FORM.run_validation(item)))
            except serializers.ValidationError as error:
                raise serializers.ValidationError(_of_item(index, error.detail)) from error
        jobs = intake.submit_many(by=person(request), requests=wishes, once=once(request), now=clock.now())
        return Response({"ids": [job.pk for job in jobs]}, status=201)


class JobItem(APIView):
    def get(self, request: Request, job_id: int) -> Response:
        return Response(_shown(job_board.job_seen_by(person(request), job_id)))


class JobCancel(APIView):
    def post(self, request: Request, job_id: int) -> Response:
        job = job_board.job_seen_by(person(request), job_id)
        return Response(_shown(intake.cancel(by=person(request), job=job, now=clock.now())))


class JobWhy(APIView):
    def get(self, request: Request, job_id: int) -> Response:
        job = job_board.job_seen_by(person(request), job_id)
        return Response(why_out(job, job_board.why(job, now=clock.now())))


def person(request: Request) -> User:
    """IsAuthenticated lets only people in."""
    return cast(User, request.user)


def once(request: Request) -> Once | None:
    return Once.of(person(request), request.headers.get("Idempotency-Key", ""), request.data)


def _wish(asked: dict[str, Any]) -> intake.Wish:
    return intake.Wish(team=asked["team"], spec_in=lambda home: spec_of(asked, home=home))


def _of_item(index: int, detail: Any) -> dict[str, Any]:
    """The mistakes of one item, with its place in the list before each field."""
    fields = detail if isinstance(detail, dict) else {"": detail}
    whole = ("", "non_field_errors")
    return {str(index) if name in whole else f"{index}.{name}": sentences for name, sentences in fields.items()}


def _shown(job: Job) -> dict[str, Any]:
    return job_out(job, job_board.task_counts([job]))
