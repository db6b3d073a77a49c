"""What the launch form offers a person now, and what it has filled in."""

from dataclasses import dataclass
from datetime import datetime

from scheduling.selectors import NodeView, node_map
from tenants.models import User
from tenants.permissions import teams_to_work_in
from workspaces.models import Image, Workspace
from workspaces.wiring import wired


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
