"""What people and gateways read of workspaces."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from portal.kernel.errors import Missing
from scheduling.core.lifecycle import FINAL, EndReason, JobState
from scheduling.selectors import JobDetail, NodeView, drivers_in_use, job_details, node_map, serving_parts
from tenants.models import User
from tenants.permissions import may_use_workspace, teams_to_work_in
from workspaces.models import Image, Workspace
from workspaces.steps import Step, steps_of
from workspaces.wiring import wired


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
    fresh = (
        [version, detail.phase, detail.position, detail.why_waiting, detail.trouble, detail.progress] if detail else [0]
    )
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
class ImageChoice:
    slug: str
    name: str
    summary: str
    available: bool
    why_not: str
    on_machine: bool


@dataclass(frozen=True, slots=True)
class GpuOption:
    count: int
    label: str
    free_now: int  # how many machines could start it now
    enabled: bool
    why_not: str


@dataclass(frozen=True, slots=True)
class LastChoice:
    team: str
    image: str
    gpus: int
    cpu_millis: int
    memory_mib: int


@dataclass(frozen=True, slots=True)
class LaunchChoices:
    """What the launch form offers this person now."""

    teams: tuple[str, ...]
    images: tuple[ImageChoice, ...]
    gpu_options: tuple[GpuOption, ...]
    max_cpu_millis: int
    max_memory_mib: int
    last: LastChoice
    driver: str
    isolated: bool
    simulated: bool
    notice: str
    notes: tuple[str, ...]  # what the machines cannot do, e.g. keep workspaces apart


def launch_choices(viewer: User, *, now: datetime) -> LaunchChoices:
    nodes = node_map(now=now)
    images = _image_choices(nodes)
    teams = tuple(team.slug for team in teams_to_work_in(viewer))
    drivers = {node.driver for node in nodes}
    max_cpu = max((node.cpu_millis for node in nodes), default=1000)
    max_memory = max((node.memory_mib for node in nodes), default=1024)
    gpu_options = _gpu_options(nodes)
    return LaunchChoices(
        teams=teams,
        images=images,
        gpu_options=gpu_options,
        max_cpu_millis=max_cpu,
        max_memory_mib=max_memory,
        last=_last_choice(viewer, teams, images, gpu_options, max_cpu, max_memory),
        driver=sorted(drivers)[0] if drivers else "",
        isolated="process" not in drivers,
        simulated=any(gpu.simulated for node in nodes for gpu in node.gpus),
        notice=_notice(viewer, nodes),
        notes=tuple(dict.fromkeys(note for node in nodes for note in node.notes)),
    )


def why_only_one() -> str:
    """Why a portal admits one person alone; the sentence goes on after a colon."""
    return wired().notice or (
        "they run as plain processes, which nothing keeps apart. With a Docker Engine on this machine everybody can."
    )


def _notice(viewer: User, nodes: list[NodeView]) -> str:
    only = wired().only_person()
    if only and viewer.username != only:
        return f"Only '{only}' may launch workspaces here: {why_only_one()}"
    troubles = [f"{node.name}: {node.trouble}" for node in nodes if node.trouble]
    return " ".join([wired().notice, *troubles]).strip()


def _image_choices(nodes: list[NodeView]) -> tuple[ImageChoice, ...]:
    drivers = {node.driver for node in nodes}
    there = {reference for node in nodes for reference in node.images}
    choices = []
    for image in Image.objects.filter(enabled=True):
        if drivers and not drivers & set(image.drivers):
            continue
        on_machine = image.reference in there or "process" in image.drivers
        only_local = image.reference.startswith("berth/") and not on_machine
        choices.append(
            ImageChoice(
                slug=image.slug,
                name=image.name,
                summary=image.summary,
                available=not only_local,
                why_not="Not built on this machine yet: run `make image`." if only_local else "",
                on_machine=on_machine,
            )
        )
    return tuple(choices)


def _gpu_options(nodes: list[NodeView]) -> tuple[GpuOption, ...]:
    """No GPU, then one, two, four … up to the largest machine."""
    most = max((len(node.gpus) for node in nodes), default=0)
    counts = [0, *[n for n in (1, 2, 4, 8, 16) if n <= most]]
    if most and most not in counts:
        counts.append(most)
    options = []
    for count in counts:
        free = sum(1 for node in nodes if node.accepts and node.free_gpus >= count)
        label = "No GPU" if count == 0 else f"{count} GPU{'s' if count > 1 else ''}"
        options.append(GpuOption(count=count, label=label, free_now=free, enabled=True, why_not=""))
    return tuple(options)


def _last_choice(
    viewer: User,
    teams: tuple[str, ...],
    images: tuple[ImageChoice, ...],
    gpu_options: tuple[GpuOption, ...],
    max_cpu: int,
    max_memory: int,
) -> LastChoice:
    """What the person launched last, as far as it is still on offer; else a modest default."""
    usable = [image.slug for image in images if image.available]
    default_image = next((image.slug for image in images if image.available and image.on_machine), "")
    default_image = default_image or (usable[0] if usable else "")
    counts = [option.count for option in gpu_options]
    last = Workspace.objects.filter(owner=viewer).select_related("team", "image").order_by("-created_at").first()
    default_gpus = 1 if 1 in counts else 0
    if last is None:
        return LastChoice(
            team=teams[0] if teams else "",
            image=default_image,
            gpus=default_gpus,
            cpu_millis=min(1000, max_cpu),
            memory_mib=min(2048, max_memory),
        )
    return LastChoice(
        team=last.team.slug if last.team.slug in teams else (teams[0] if teams else ""),
        image=last.image.slug if last.image.slug in usable else default_image,
        gpus=last.gpus if last.gpus <= max(counts) else default_gpus,
        cpu_millis=min(last.cpu_millis, max_cpu),
        memory_mib=min(last.memory_mib, max_memory),
    )


@dataclass(frozen=True, slots=True)
class OpenRoute:
    """A workspace that can be entered now, for the gateway's table."""

    workspace_id: str
    owner_id: int
    node: str
    allocation: str
    token: str


def open_routes() -> list[OpenRoute]:
    """Every workspace whose server runs, in two queries."""
    parts = {part.job_id: part for part in serving_parts()}
    rows = Workspace.objects.filter(job__in=list(parts), deleted_at__isnull=True, owner__is_active=True)
    return [
        OpenRoute(pk, owner, parts[job].node, parts[job].allocation, parts[job].token)
        for pk, owner, job in rows.values_list("id", "owner_id", "job_id")
    ]
