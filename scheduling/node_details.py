"""What those who run the machines read: one machine with its work, cards and errors, and the plan of emptying it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from scheduling.core.drain import Drain
from scheduling.core.explain import sentence
from scheduling.drains import state_asked_for
from scheduling.models import Allocation, Enrolment, Gpu, GpuEvent, Job, Node
from scheduling.selectors import GpuView, NodeView, node_map

_RECENT_EVENTS = 20


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job as an admin's list names it."""

    id: int
    name: str
    owner: str
    team: str
    state: str
    gpus: int
    preemptible: bool


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card's machine says of its place. None, island 0: it does not say. `waits_for_check`: it is in quarantine
    and comes back by itself. `reason`, `since`: of the quarantine; empty: it is well."""

    view: GpuView
    uuid: str
    index: int
    island: int
    pci: str | None
    numa: int | None
    mig: bool | None
    reason: str
    since: datetime | None
    waits_for_check: bool


@dataclass(frozen=True, slots=True)
class NodeDetail:
    """`asked_for`: what it is, or comes back as once it answers. `enrolled`: an agent elsewhere speaks for it."""

    view: NodeView
    asked_for: str
    drain_by: datetime | None
    returns_to: str
    enrolled: bool
    labels: tuple[tuple[str, str], ...]
    path: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    cards: tuple[CardFacts, ...]
    jobs: tuple[JobLine, ...]
    events: tuple[GpuEvent, ...]

    @property
    def quarantined(self) -> list[CardFacts]:
        return [card for card in self.cards if card.reason]


def node_detail(node: Node, *, now: datetime) -> NodeDetail:
    (view,) = node_map(now=now, node=node.pk)
    cards = Gpu.objects.filter(node=node, retired_at__isnull=True).order_by("index", "id")
    views = {gpu.uuid: gpu for gpu in view.gpus}
    told = {str(gpu.get("uuid")): gpu for gpu in node.facts.get("gpus", ())}
    held = Allocation.objects.filter(node=node, released_at__isnull=True).values("job")
    events = GpuEvent.objects.filter(gpu__node=node).select_related("gpu", "job")[:_RECENT_EVENTS]
    return NodeDetail(
        view=view,
        asked_for=state_asked_for(node),
        drain_by=node.drain_by,
        returns_to=node.returns_to,
        enrolled=Enrolment.objects.filter(node_name=node.name).exists(),
        labels=tuple(sorted((str(key), str(value)) for key, value in node.labels.items())),
        path=tuple(node.path),
        facts=tuple(_facts(node.facts)),
        cards=tuple(_card(gpu, views[gpu.uuid], told.get(gpu.uuid, {})) for gpu in cards if gpu.uuid in views),
        jobs=tuple(_line(job) for job in _jobs(held)),
        events=tuple(events),
    )


def _facts(told: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """(name, value) of what is worth a line, left out where the machine does not say."""
    yield "Agent", str(told.get("agent") or "unknown")
    for key, name in (("driver_version", "NVIDIA driver"), ("engine", "Engine"), ("cgroup_driver", "Control groups")):
        if told.get(key):
            yield name, str(told[key])
    if told.get("runtimes"):
        yield "Runtimes", ", ".join(told["runtimes"])
    if told.get("disk_mib"):
        free = told.get("disk_free_mib")
        yield "Disk", f"{(free or 0) // 1024:,} of {told['disk_mib'] // 1024:,} GiB free"
    if ports := told.get("infiniband"):
        yield "InfiniBand", ", ".join(f"{port['device']}/{port['port']} {port['state'].lower()}" for port in ports)


def _card(gpu: Gpu, view: GpuView, told: dict[str, Any]) -> CardFacts:
    return CardFacts(
        view=view,
        uuid=gpu.uuid,
        index=gpu.index,
        island=gpu.island,
        pci=told.get("pci_bus_id"),
        numa=told.get("numa_node"),
        mig=told.get("mig_enabled"),
        reason=gpu.quarantine_reason,
        since=gpu.quarantined_at,
        waits_for_check=gpu.quarantined_at is not None and not gpu.quarantine_boot_id,
    )


def _jobs(ids: Any) -> Iterable[Job]:
    return Job.objects.filter(pk__in=ids).select_related("owner", "team").order_by("id")


def _line(job: Job) -> JobLine:
    return JobLine(job.pk, job.name, job.owner.username, job.team.slug, job.state, job.gpus, job.preemptible)


@dataclass(frozen=True, slots=True)
class MoveLine:
    """A job that leaves now. `to`: where it goes on; empty: it waits, `why`, until `starts_at` (None: not within a
    month). `evicts`: whose place it takes there."""

    job: JobLine
    to: tuple[str, ...]
    evicts: tuple[JobLine, ...]
    why: str
    starts_at: datetime | None


@dataclass(frozen=True, slots=True)
class StayLine:
    job: JobLine
    until: datetime
    leaves: bool


@dataclass(frozen=True, slots=True)
class DrainView:
    """A `core.drain.Drain` with names and moments."""

    moves: tuple[MoveLine, ...]
    waits: tuple[MoveLine, ...]
    stays: tuple[StayLine, ...]
    delayed: tuple[JobLine, ...]
    empty_by: datetime
    empty_now: bool


def drain_view(drain: Drain, *, now: datetime) -> DrainView:
    ids = {move.job for move in drain.moves} | {stay.job for stay in drain.stays} | set(drain.delayed)
    ids |= {job for move in drain.moves for job in move.evicts}
    lines = {job.pk: _line(job) for job in _jobs(ids)}
    names = dict(Node.objects.values_list("pk", "name"))
    moves = [
        MoveLine(
            job=lines[move.job],
            to=tuple(names[node] for node in move.nodes),
            evicts=tuple(lines[job] for job in move.evicts),
            why=sentence(move.hold.code, dict(move.hold.numbers)) if move.hold else "",
            starts_at=_moment(move.starts_at),
        )
        for move in drain.moves
    ]
    empty_by = datetime.fromtimestamp(drain.empty_by, UTC)
    return DrainView(
        moves=tuple(move for move in moves if move.to),
        waits=tuple(move for move in moves if not move.to),
        stays=tuple(StayLine(lines[s.job], datetime.fromtimestamp(s.until, UTC), s.leaves) for s in drain.stays),
        delayed=tuple(lines[job] for job in drain.delayed),
        empty_by=empty_by,
        empty_now=empty_by - now < timedelta(seconds=1),
    )


def _moment(at: int | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
