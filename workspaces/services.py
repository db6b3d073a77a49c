"""What a person can do with workspaces: launch, start again, stop, delete, open."""

import hashlib
import unicodedata
from datetime import datetime

from django.db import IntegrityError, transaction

from portal.kernel.errors import Conflict, Rejected
from portal.kernel.publish import publish
from scheduling.core.lifecycle import FINAL, JobState
from scheduling.services import JobSpec, cancel_job, home_of, judge_job, refuse_what_never_fits, submit_job
from tenants.models import Team, User
from tenants.permissions import may_open_workspace, may_submit, may_use_workspace
from workspaces.choices import why_only_one
from workspaces.gateway.tickets import mint
from workspaces.models import Image, Volume, Workspace
from workspaces.selectors import NoSuchWorkspace, drivers_here
from workspaces.wiring import wired

SERVER_PORT = 8888
PROBE_PATH = "/api"
MOST_WORKSPACES = 20
#: how often a launch looks for a free name again when others of the same person come first
ATTEMPTS = MOST_WORKSPACES + 1
NAME_LENGTH = 60
_TURNS_THE_LINE = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class NoSuchTeam(Rejected):
    """There is no team '{team}' that you may run work in; choose one of yours."""

    field = "team"


class NoSuchImage(Rejected):
    """There is no image '{image}' in the catalogue; choose one of: {known}."""

    field = "image"


class ImageNeedsAnotherDriver(Rejected):
    """'{image}' cannot run here: it needs {needs}. Choose another image."""

    field = "image"


class BadName(Rejected):
    """A name has at most 60 visible characters and no control characters; please choose another."""

    field = "name"


class NameTaken(Conflict):
    """You already have a workspace called '{name}'; open that one, or choose another name."""

    field = "name"


class ImpossibleSize(Rejected):
    """{what} must be {range}."""

    def __init__(self, *, field: str, what: str, range: str) -> None:
        self.field = field  # type: ignore[misc]
        super().__init__(what=what, range=range)


class TooManyWorkspaces(Rejected):
    """You have {count} workspaces, which is the most one person may have; delete one that you do not need."""


class OnlyOnePerson(Rejected):
    """Only '{person}' may launch workspaces here: {why}"""


class StillStopping(Conflict):
    """This workspace is still stopping; start it again in a moment."""


class StillRunning(Conflict):
    """This workspace is running; stop it before you delete it."""


class NotInTeam(Rejected):
    """You are not a member of the team '{team}' any more, so you cannot open this workspace; you can still stop it."""


class NotReady(Conflict):
    """This workspace is not ready to be opened; its page shows how far it is."""


def launch_workspace(
    *,
    by: User,
    team: str,
    image: str,
    gpus: int,
    cpu_millis: int,
    memory_mib: int,
    now: datetime,
    name: str = "",
    launch_key: str = "",
) -> Workspace:
    """Make a workspace and queue its first run. The same `launch_key` again answers the same workspace.

    team, image: slugs. name: empty means that one is chosen. Raises the errors above, each naming its form field.
    """
    key = hashlib.sha256(launch_key.encode(errors="surrogatepass")).hexdigest() if launch_key else ""
    mine = Workspace.objects.filter(owner=by, deleted_at__isnull=True)
    if key and (earlier := mine.filter(launch_key=key).first()):
        return earlier
    team_row = Team.objects.filter(slug=team).first()
    if team_row is None or not may_submit(by, team_row):
        raise NoSuchTeam(team=team[:60])
    image_row = _image(image)
    _check_person(by)
    _check_size(gpus=gpus, cpu_millis=cpu_millis, memory_mib=memory_mib)
    wanted = _clean_name(name)
    planned = Workspace(
        owner=by, team=team_row, name=wanted, image=image_row, gpus=gpus, cpu_millis=cpu_millis, memory_mib=memory_mib
    )
    judge_job(by=by, team=team_row, spec=_spec(planned), now=now)  # before the transaction: it takes a plan
    for _ in range(ATTEMPTS):
        taken = set(mine.values_list("name", flat=True))
        if len(taken) >= MOST_WORKSPACES:
            raise TooManyWorkspaces(count=MOST_WORKSPACES)
        if wanted in taken:
            raise NameTaken(name=wanted)
        try:
            with transaction.atomic():
                workspace = Workspace.objects.create(
                    owner=by,
                    team=team_row,
                    name=wanted or _free_name(taken),
                    image=image_row,
                    volume=_home_of(by, team_row, now),
                    gpus=gpus,
                    cpu_millis=cpu_millis,
                    memory_mib=memory_mib,
                    launch_key=key,
                    created_at=now,
                )
                _submit(by, workspace, now, judged=True)
            return workspace
        except IntegrityError:
            # Another request of the same person came first: the same click made it, or it took the name.
            if key and (twin := mine.filter(launch_key=key).first()):
                return twin
    raise NameTaken(name=wanted or _free_name(set(mine.values_list("name", flat=True))))


def start_workspace(*, by: User, workspace: Workspace, now: datetime) -> Workspace:
    """Queue another run of a stopped or failed workspace. One that runs or waits is left as it is."""
    _own(by, workspace)
    _check_person(by)
    judged = workspace.job is None or workspace.job.state in FINAL
    if judged:
        judge_job(by=by, team=workspace.team, spec=_spec(workspace), now=now)
    with transaction.atomic():
        # Locked, so that two clicks at once submit one job.
        locked = Workspace.objects.select_for_update(of=("self",))
        workspace = locked.select_related("job", "image", "team", "volume").get(pk=workspace.pk)
        if workspace.deleted_at is not None:
            raise NoSuchWorkspace()
        if workspace.job is not None and workspace.job.state not in FINAL:
            if workspace.job.state == JobState.STOPPING:
                raise StillStopping()
            return workspace
        _submit(by, workspace, now, judged=judged)
    return workspace


def stop_workspace(*, by: User, workspace: Workspace, now: datetime) -> Workspace:
    """End its run, or take it off the queue; the home volume stays. One that is stopped is left as it is."""
    _own(by, workspace)
    if workspace.job is not None:
        cancel_job(job=workspace.job, now=now, message="You stopped it.")
    return workspace


def delete_workspace(*, by: User, workspace: Workspace, now: datetime) -> None:
    """Take a stopped workspace off the list. The home volume, which other workspaces of the team share, stays."""
    _own(by, workspace)
    with transaction.atomic():
        workspace = Workspace.objects.select_for_update(of=("self",)).select_related("job").get(pk=workspace.pk)
        if workspace.job is not None and workspace.job.state not in FINAL:
            raise StillRunning()
        workspace.deleted_at = workspace.deleted_at or now
        workspace.save(update_fields=["deleted_at"])
        publish("person", by.pk, workspace=workspace.pk)
        publish("gateway", "all", workspace=workspace.pk)


def ticket_url(*, by: User, workspace: Workspace, session_key: str, now: datetime, path: str = "/lab") -> str:
    """Where the browser enters the workspace once, within 30 s. Raises NotReady while there is nothing to enter."""
    _own(by, workspace)
    if not may_open_workspace(by, owner_id=workspace.owner_id, team_id=workspace.team_id):
        raise NotInTeam(team=workspace.team.slug)
    if workspace.job is None or workspace.job.state != JobState.RUNNING:
        raise NotReady()
    ticket = mint(workspace=workspace, user=by, session_key=session_key, now=now)
    return f"{wired().browser_origin(workspace.pk)}/.berth/enter?ticket={ticket}&next={path}"


def _own(by: User, workspace: Workspace) -> None:
    if workspace.deleted_at is not None or not may_use_workspace(by, owner_id=workspace.owner_id):
        raise NoSuchWorkspace()


def _image(slug: str) -> Image:
    row = Image.objects.filter(slug=slug, enabled=True).first()
    here = drivers_here()
    if row is None:
        usable = [i.slug for i in Image.objects.filter(enabled=True) if here & set(i.drivers)]
        raise NoSuchImage(image=slug[:60], known=", ".join(usable))
    if here and not here & set(row.drivers):
        needs = "Docker" if "docker" in row.drivers else "the process driver"
        raise ImageNeedsAnotherDriver(image=row.name, needs=needs)
    return row


def _check_person(by: User) -> None:
    only = wired().only_person()
    if only and by.username != only:
        raise OnlyOnePerson(person=only, why=why_only_one())


def _check_size(*, gpus: int, cpu_millis: int, memory_mib: int) -> None:
    if gpus < 0:
        raise ImpossibleSize(field="gpus", what="The number of GPUs", range="0 or more")
    if cpu_millis < 100:
        raise ImpossibleSize(field="cpus", what="The number of CPU cores", range="0.1 or more")
    if memory_mib < 512:
        raise ImpossibleSize(field="memory_gib", what="The memory", range="0.5 GiB or more")
    refuse_what_never_fits(gpus=gpus, cpu_millis=cpu_millis, memory_mib=memory_mib)


def _clean_name(name: str) -> str:
    name = unicodedata.normalize("NFC", name).strip()
    # Cc: control characters; Cs: lone surrogates; bidirectional overrides would let a name rewrite the line around it.
    odd = any(unicodedata.category(letter) in ("Cc", "Cs") or letter in _TURNS_THE_LINE for letter in name)
    # Cf alone (zero-width marks) would be a name that nobody sees.
    invisible = bool(name) and all(unicodedata.category(letter) in ("Cf", "Zs") for letter in name)
    if len(name) > NAME_LENGTH or odd or invisible:
        raise BadName()
    return name


def _free_name(taken: set[str]) -> str:
    return next(name for n in range(1, len(taken) + 2) if (name := "lab" if n == 1 else f"lab-{n}") not in taken)


def _home_of(user: User, team: Team, now: datetime) -> Volume:
    volume, _ = Volume.objects.get_or_create(
        owner=user, team=team, defaults={"name": home_of(team=team, owner=user), "created_at": now}
    )
    return volume


def _submit(by: User, workspace: Workspace, now: datetime, *, judged: bool) -> None:
    """Queue a run of the workspace and make it the present one. Inside the caller's transaction."""
    job = submit_job(by=by, team=workspace.team, spec=_spec(workspace), now=now, judged=judged)
    workspace.job = job
    workspace.save(update_fields=["job"])


def _spec(workspace: Workspace) -> JobSpec:
    """One run of it. Of a workspace that is not made yet: what it will need."""
    return JobSpec(
        name=workspace.name,
        face=f"workspace.{workspace.pk}",
        image=workspace.image.reference,
        command=tuple(wired().command()),
        volume=workspace.volume.name if workspace.volume_id else "",
        port=SERVER_PORT,
        probe_path=PROBE_PATH,
        gpus=workspace.gpus,
        cpu_millis=workspace.cpu_millis,
        memory_mib=workspace.memory_mib,
        limit=wired().limit,
    )
