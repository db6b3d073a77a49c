"""What people and gateways read of workspaces."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import F, QuerySet

from portal.kernel.errors import Missing
from scheduling.core.lifecycle import FINAL, EndReason, JobState
from scheduling.selectors import JobDetail, drivers_in_use, job_details, serving_parts
from tenants.models import User
from tenants.permissions import WORKERS, may_use_workspace
from workspaces.models import Workspace
from workspaces.steps import Step, steps_of


class NoSuchWorkspace(Missing):
    """There is no such workspace, or it is not yours."""


#: what to do about a failure, where the sentence of the failure does not say so itself
REMEDIES = {
    "start_timeout": "Start it again; if it happens again, try another image or more memory.",
    "place_timeout": "Start it again. If the image is large, ask your admin to fetch it onto the machine beforehand.",
    "oom-killed": "Start it with more memory.",
    "vanished": "Start it again.",
    "exited": "Look at the last lines of its log, then start it again.",
    "engine-away": "Ask your admin to start the Docker engine, then start it again.",
}


@dataclass(frozen=True, slots=True)
class WorkspaceView:
    """A workspace as its page shows it. Sizes are the launched ones; GPU models come with the placement."""

    id: str
    name: str
    team: str
    image: str
    image_slug: str
    gpus: int
    cpu_millis: int
    memory_mib: int
    status: str  # queued placed pulling starting ready stopping stopped failed
    version: int  # of the job: a page drops news that is older
    etag: str  # changes with anything that the page shows
    job_id: int | None
    place: int | None  # 1-based place in the queue
    kept_from: datetime | None  # from when at the latest a place is kept for it
    reason: str  # why it waits, stops, stopped or failed
    remedy: str
    trouble: str  # what is wrong with its machine right now
    log_tail: str
    node: str
    gpu_models: tuple[tuple[str, bool, str], ...]  # (model, simulated, uuid)
    progress: tuple[int, int] | None  # bytes of the image; total 0 when not known
    steps: tuple[Step, ...]
    created_at: datetime
    ready_at: datetime | None
    ends_at: datetime | None  # when its time limit is reached
    home: str
    isolated: bool
    simulated: bool


def workspaces_of(viewer: User, *, now: datetime) -> list[WorkspaceView]:
    """The viewer's workspaces, newest first, in a fixed number of queries."""
    rows = list(_rows().filter(owner=viewer))
    return _views(rows, now)


def workspace_of(viewer: User, workspace_id: str) -> Workspace:
    """The row, for a change. Raises NoSuchWorkspace for one that is not there or not the viewer's."""
    # PostgreSQL answers a NUL in a text with an error instead of "no such row".
    row = None if "\x00" in workspace_id else _rows().filter(pk=workspace_id).first()
    if row is None or not may_use_workspace(viewer, owner_id=row.owner_id):
        raise NoSuchWorkspace()
    return row


def workspace_view(viewer: User, workspace_id: str, *, now: datetime) -> WorkspaceView:
    return _views([workspace_of(viewer, workspace_id)], now)[0]


def _rows() -> QuerySet[Workspace]:
    return Workspace.objects.filter(deleted_at__isnull=True).select_related("team", "image", "volume", "job__owner")


def _views(rows: list[Workspace], now: datetime) -> list[WorkspaceView]:
    details = job_details([row.job for row in rows if row.job is not None])
    isolated = "process" not in drivers_here()
    return [_view(row, details.get(row.job_id or 0), isolated, now) for row in rows]


def _status(detail: JobDetail) -> str:
    state = JobState(detail.job.state)
    match state:
        case JobState.PLACED:
            return "pulling" if detail.phase == "pulling" else "placed"
        case JobState.RUNNING:
            return "ready"
        case JobState.FAILED:
            return "failed"
        case JobState.QUEUED | JobState.STARTING | JobState.STOPPING:
            return str(state)
        case _ if state in FINAL:
            return "stopped"
        case _:
            return "starting"


def _reason(detail: JobDetail) -> str:
    job = detail.job
    if job.state == JobState.QUEUED:
        return detail.why_waiting or "The scheduler looks at it in a moment."
    if job.end_message:
        return job.end_message
    if job.end_reason == EndReason.TIMED_OUT:
        return "It reached its time limit."
    return ""


def _view(row: Workspace, detail: JobDetail | None, isolated: bool, now: datetime) -> WorkspaceView:
    job = detail.job if detail else None
    status = _status(detail) if detail else "stopped"
    gpus = tuple((gpu.model, gpu.simulated, gpu.uuid) for gpu in detail.gpus) if detail else ()
    version = job.version if job else 0
    fresh: list[object] = [0]
    if detail:
        waits = (detail.position, detail.why_waiting, detail.reserved_at)
        fresh = [version, detail.phase, *waits, detail.trouble, detail.progress]
    running = job is not None and job.state == JobState.RUNNING and job.running_at is not None
    return WorkspaceView(
        id=row.pk,
        name=row.name,
        team=row.team.slug,
        image=row.image.name,
        image_slug=row.image.slug,
        gpus=row.gpus,
        cpu_millis=row.cpu_millis,
        memory_mib=row.memory_mib,
        status=status,
        version=version,
        etag="-".join(str(value).replace(" ", "") for value in [row.job_id, *fresh]),
        job_id=row.job_id,
        place=detail.position if detail else None,
        kept_from=detail.reserved_at if detail else None,
        reason=_reason(detail) if detail else "",
        remedy=REMEDIES.get(job.end_code, "") if job else "",
        trouble=detail.trouble if detail else "",
        log_tail=job.log_tail if job else "",
        node=detail.node if detail else "",
        gpu_models=gpus,
        progress=detail.progress if detail and status == "pulling" else None,
        steps=steps_of(detail, now=now) if detail else (),
        created_at=row.created_at,
        ready_at=job.running_at if job and running else None,
        ends_at=job.running_at + job.limit if job and running and job.running_at else None,
        home=row.volume.name,
        isolated=isolated,
        simulated=any(simulated for _, simulated, _ in gpus),
    )


def drivers_here() -> set[str]:
    """Which drivers the machines run; empty before the first report."""
    return drivers_in_use()


@dataclass(frozen=True, slots=True)
class OpenRoute:
    """A workspace that can be entered now, for the gateway's table."""

    workspace_id: str
    owner_id: int
    node: str
    allocation: str
    token: str


def open_routes() -> list[OpenRoute]:
    """Every workspace whose server runs and whose owner is still of its team, in two queries."""
    parts = {part.job_id: part for part in serving_parts()}
    running = Workspace.objects.filter(job__in=list(parts), deleted_at__isnull=True, owner__is_active=True)
    # The rule of permissions.may_open_workspace, for all at once.
    rows = running.filter(owner__memberships__team=F("team"), owner__memberships__role__in=WORKERS)
    return [
        OpenRoute(pk, owner, parts[job].node, parts[job].allocation, parts[job].token)
        for pk, owner, job in rows.values_list("id", "owner_id", "job_id")
    ]
