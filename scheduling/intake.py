"""What a person may do with batch jobs: submit and cancel. The API asks now, pages later."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from portal.kernel.errors import Rejected
from scheduling.models import Job, Node
from scheduling.selectors import drivers_in_use
from scheduling.services import BadOne, JobSpec, Once, cancel_job, home_of, submit_job, submit_jobs
from scheduling.wiring import wired
from tenants.models import Team, User
from tenants.permissions import may_cancel_job, teams_to_work_in


class NoTeamToWorkIn(Rejected):
    """There is no team '{team}' that you may run work in; choose one of yours."""

    field = "team"


class WhichTeam(Rejected):
    """You work in several teams; say in whose name it runs: {known}."""

    field = "team"


class NoImage(Rejected):
    """Say in which image it runs, for instance one that is on a machine already: {known}."""

    field = "image"


class OnlyOnePerson(Rejected):
    """Only '{person}' may run jobs here, because they run as plain processes, which are not kept apart."""


class NotYoursToCancel(Rejected):
    """Only the owner of a job, and those who run its team, may cancel it."""

    status = 403


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. team: a slug; empty: the only one that the person works in. spec_in: the spec, once it is
    known which volume is the person's home there."""

    team: str
    spec_in: Callable[[str], JobSpec]


def submit(*, by: User, request: Wish, once: Once | None, now: datetime) -> Job:
    """Queue a job, or answer the one that the same keyed request made before. A Rejected names its field."""
    if once and (earlier := once.earlier()):
        return earlier[0]
    refuse_strangers(by)
    team = _team(request.team, {team.slug: team for team in teams_to_work_in(by)})
    spec = request.spec_in(home_of(team=team, owner=by))
    refuse_without_image(spec)
    return submit_job(by=by, team=team, spec=spec, now=now, once=once)


def submit_many(*, by: User, requests: Sequence[Wish], once: Once | None, now: datetime) -> list[Job]:
    """All or none, as `submit`; the field of a Rejected begins with the place in the list, from 0."""
    if once and (earlier := once.earlier()):
        return earlier
    refuse_strangers(by)
    teams = {team.slug: team for team in teams_to_work_in(by)}
    needs_image = "docker" in drivers_in_use()
    asked = []
    for index, request in enumerate(requests):
        try:
            team = _team(request.team, teams)
            spec = request.spec_in(home_of(team=team, owner=by))
            if needs_image and not spec.image:
                refuse_without_image(spec)
        except Rejected as why:
            raise BadOne(index=index, why=why) from why
        asked.append((team, spec))
    return submit_jobs(by=by, asked=asked, now=now, once=once)


def cancel(*, by: User, job: Job, now: datetime) -> Job:
    """End it, or take it off the queue. One that has ended, or is stopping, is left as it is."""
    if not may_cancel_job(by, owner_id=job.owner_id, team_id=job.team_id):
        raise NotYoursToCancel()
    return cancel_job(job=job, now=now, message=f"{by.username} cancelled it.")


def _team(slug: str, teams: Mapping[str, Team]) -> Team:
    if not slug and len(teams) == 1:
        return next(iter(teams.values()))
    if not slug and teams:
        raise WhichTeam(known=", ".join(teams))
    if slug not in teams:
        raise NoTeamToWorkIn(team=slug[:60])
    return teams[slug]


def refuse_strangers(by: User) -> None:
    only = wired().only_person()
    if only and by.username != only:
        raise OnlyOnePerson(person=only)


def refuse_without_image(spec: JobSpec) -> None:
    """Without containers nothing is needed; an engine has to know what to run."""
    if not spec.image and "docker" in drivers_in_use():
        here = {str(image) for images in Node.objects.values_list("images", flat=True) for image in images}
        raise NoImage(known=", ".join(sorted(here)[:8]) or "none yet")
