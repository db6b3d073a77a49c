"""What the outside hears of a job: browsers that show it, its owner's pages, and the gateways that serve it."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from portal.kernel.publish import News, publish, publish_all
from scheduling.core.lifecycle import JobState
from scheduling.models import Job

#: of more jobs than this at once each owner hears in one message, instead of one for each job
MANY = 200


def tell(job: Job, **small: int) -> None:
    """Say, once the transaction commits, that `job` changed. `small`: the few numbers that a page shows at once."""
    publish_all(_news(job, small))


def tell_all(jobs: Collection[Job]) -> None:
    """As `tell`, of all that one cycle changed. Of very many, people hear only that there was something: whoever shows
    a list of jobs fetches it anew for one message as for a thousand."""
    if len(jobs) <= MANY:
        publish_all([news for job in jobs for news in _news(job, {})])
        return
    faces = [_face(job) for job in jobs if job.face]
    publish_all([*faces, *(("person", owner, {}) for owner in sorted({job.owner_id for job in jobs}))])


def _news(job: Job, small: Mapping[str, int]) -> list[News]:
    facts = {**_facts(job), **small}
    news: list[News] = [("job", job.pk, facts), ("person", job.owner_id, facts)]
    return [*news, _face(job, small)] if job.face else news


def _face(job: Job, small: Mapping[str, int] = MappingProxyType({})) -> News:
    topic, _, id = job.face.partition(".")
    return topic, id, {**_facts(job), **small}


def tell_gateways(job: Job, *, before: JobState, after: JobState) -> None:
    """A job that begins or ends to serve changes who can be reached; gateways should not wait for their next look."""
    if job.face and JobState.RUNNING in (before, after):
        topic, _, id = job.face.partition(".")
        publish("gateway", "all", **{topic: id})


def _facts(job: Job) -> dict[str, object]:
    return {"job": job.pk, "version": job.version, "state": str(job.state)}
