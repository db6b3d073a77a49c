"""What people and programs read of batch jobs: lists, one job, why it waits. Workspaces have pages of their own."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from portal.kernel.errors import Missing, Rejected
from scheduling.core.explain import sentence
from scheduling.core.lifecycle import FINAL, JobState
from scheduling.core.remedies import Change
from scheduling.models import Allocation, Job, JobTransition
from scheduling.records.holds import in_words
from scheduling.selectors import Estimate, changes_that_start, estimate, job_details
from scheduling.wiring import wired
from tenants.models import Team, User
from tenants.permissions import may_see_job, may_submit_critical, teams_to_read

BATCH = "batch"
MOST_PER_PAGE = 200
_SOON = "The scheduler looks at it in a moment."


class NoSuchJob(Missing):
    """There is no such job, or it is none that you may see."""


class NoTeamToSee(Missing):
    """There is no team '{team}', or it is none whose jobs you may see."""

    field = "team"


class UnknownState(Rejected):
    """There is no state '{state}'; choose among: {known}."""

    field = "state"


# ---------------------------------------------------------------------------------------------------- lists
def jobs_page(
    viewer: User,
    *,
    team: str = "",
    owner: str = "",
    states: Sequence[str] = (),
    array: int | None = None,
    before: int | None = None,
    limit: int,
) -> list[Job]:
    """The jobs that the viewer may see, newest first; an array is one of them, and its tasks are listed by asking for
    `array`. before: the last id of the page before. Raises NoTeamToSee, UnknownState."""
    rows = _seen_by(viewer)
    rows = rows.filter(array__isnull=True) if array is None else rows.filter(array=array)
    if team:
        rows = rows.filter(team=_team(viewer, team))
    if owner:
        rows = rows.filter(owner__username=owner)
    if states:
        rows = rows.filter(_in_states(states))
    if before is not None:
        rows = rows.filter(pk__lt=before)
    return list(rows.order_by("-id")[:limit])


def job_seen_by(viewer: User, job: int) -> Job:
    """Raises NoSuchJob for one that is not there, or not for this viewer's eyes."""
    row = _jobs().filter(pk=job).first() if job < 2**62 else None
    if row is None or not may_see_job(viewer, owner_id=row.owner_id, team_id=row.team_id):
        raise NoSuchJob()
    return row


def _jobs() -> QuerySet[Job]:
    return Job.objects.filter(kind=BATCH).select_related("team", "owner")


def _seen_by(viewer: User) -> QuerySet[Job]:
    teams = teams_to_read(viewer)
    return _jobs() if teams is None else _jobs().filter(Q(team__in=teams) | Q(owner=viewer))


def _team(viewer: User, slug: str) -> Team:
    teams = teams_to_read(viewer)
    row = None if "\0" in slug else Team.objects.filter(slug=slug).first()
    if row is None or (teams is not None and row.pk not in teams):
        raise NoTeamToSee(team=slug[:60])
    return row


def _in_states(states: Sequence[str]) -> Q:
    """An array is in a state if one of its tasks is."""
    for state in states:
        if state not in list(JobState):
            raise UnknownState(state=state[:40], known=", ".join(JobState))
    tasks = Job.objects.filter(array=OuterRef("pk"), state__in=states)
    arrays = Q(state__in=[state for state in states if state in FINAL]) | Q(Exists(tasks))
    if JobState.QUEUED in states:
        arrays |= Q(state=JobState.QUEUED, array_left__gt=0)
    return Q(array_size=0, state__in=states) | (Q(array_size__gt=0) & arrays)


# ---------------------------------------------------------------------------------------------------- arrays
def task_counts(jobs: Iterable[Job]) -> dict[int, dict[str, int]]:
    """For each array among these jobs how many of its tasks are in which state; those without a row wait, or were
    cancelled with the array. One query."""
    arrays = {job.pk: job for job in jobs if job.array_size}
    counts: dict[int, dict[str, int]] = {pk: defaultdict(int) for pk in arrays}
    if arrays:
        rows = Job.objects.filter(array__in=list(arrays)).order_by().values_list("array", "state")
        for array, state, count in rows.annotate(count=Count("pk")):
            counts[array][state] += count
    for pk, job in arrays.items():
        unplaced = job.array_size - sum(counts[pk].values())
        if unplaced:
            counts[pk][JobState.CANCELLED if job.state in FINAL else JobState.QUEUED] += unplaced
    return {pk: dict(sorted(by_state.items())) for pk, by_state in counts.items()}


def shown_state(job: Job, counts: dict[str, int]) -> str:
    """An array runs as soon as one of its tasks has a place, and until the last one has ended."""
    if not job.array_size or job.state in FINAL:
        return job.state
    moved = any(state != JobState.QUEUED for state, count in counts.items() if count)
    return JobState.RUNNING if moved else JobState.QUEUED


# ---------------------------------------------------------------------------------------------------- one job
@dataclass(frozen=True, slots=True)
class Held:
    """One replica's place in the present attempt, or in the last one. devices: (model, uuid, simulated)."""

    replica: int
    node: str
    phase: str
    held_at: datetime
    released_at: datetime | None
    image_digest: str
    devices: tuple[tuple[str, str, bool], ...]


def history_of(job: Job) -> list[JobTransition]:
    """Every move, the first one first. One query, or none for a job that has done nothing yet but to come."""
    if job.version == 1:
        return [JobTransition(job=job, attempt=0, to_state=job.state, event="submit", at=job.submitted_at)]
    return list(JobTransition.objects.filter(job=job).order_by("id"))


def places_of(job: Job) -> list[Held]:
    """One query, or none for a job that never had any."""
    if not job.attempt:
        return []
    rows = Allocation.objects.filter(job=job, attempt=job.attempt).select_related("node", "slot__gpu")
    parts: dict[int, list[Allocation]] = defaultdict(list)
    for row in rows.order_by("part", "-lead", "id"):
        parts[row.part].append(row)
    return [
        Held(
            replica=part,
            node=held[0].node.name,
            phase=held[0].phase,
            held_at=held[0].held_at,
            released_at=held[0].released_at,
            image_digest=held[0].image_digest,
            devices=tuple(
                (row.slot.gpu.model, row.slot.device_uuid, row.slot.gpu.simulated) for row in held if row.slot
            ),
        )
        for part, held in parts.items()
    ]


def reason_of(job: Job, counts: Mapping[str, int]) -> str:
    """One sentence: why it, or what is left of an array, waits; why it stops or has ended; empty while it runs."""
    if job.state != JobState.QUEUED:
        return job.end_message
    if job.array_size and not job.array_left:
        return ""
    live = job.array_size - job.array_left - sum(counts.get(state, 0) for state in FINAL)
    if job.array_limit is not None and live >= job.array_limit:
        return f"It runs {job.array_limit} of its tasks at a time, as it asked for."
    return sentence(job.hold_code, job.hold_numbers) or _SOON


def terms_of(job: Job) -> str:
    """The terms on which it stands in the queue, in words; empty where they are not known yet."""
    return in_words(job.terms, [tier.name for tier in wired().policy.tiers])


@dataclass(frozen=True, slots=True)
class Why:
    """Why a job waits, when it will start, and what would start it at once. estimate: None for one that does not
    wait."""

    reason: str
    place: int | None
    terms: str
    kept_from: datetime | None
    estimate: Estimate | None
    changes: tuple[Change, ...]


def why(job: Job, *, now: datetime) -> Why:
    """Runs the queue forward: for one job that somebody asks about, not for lists."""
    detail = job_details([job])[job.pk]
    expected = estimate(job, now=now)
    tiers = [
        tier.name for tier in wired().policy.tiers if not tier.critical or may_submit_critical(job.owner, job.team)
    ]
    return Why(
        reason=("" if job.array_size else detail.why_waiting) or reason_of(job, task_counts([job]).get(job.pk, {})),
        place=detail.position,
        terms=terms_of(job),
        kept_from=detail.reserved_at,
        estimate=expected,
        changes=changes_that_start(job, tiers=tiers, now=now) if expected else (),
    )
