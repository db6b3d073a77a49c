"""What the outside hears of a job: browsers that show it, its owner's pages, and the gateways that serve it."""

from collections.abc import Collection

from portal.kernel.publish import publish, publish_all
from scheduling.core.lifecycle import JobState
from scheduling.models import Job

#: of more jobs than this at once each owner hears in one message, instead of one for each job
MANY = 200


def tell(job: Job, **small: int) -> None:
    """Say, once the transaction commits, that `job` changed. `small`: the few numbers that a page shows at once."""
    facts = {**_facts(job), **small}
    publish("job", job.pk, **facts)
    publish("person", job.owner_id, **facts)
    if job.face:
        topic, _, id = job.face.partition(".")
        publish(topic, id, **facts)


def tell_all(jobs: Collection[Job]) -> None:
    """As `tell`, of all that one cycle changed. Of very many, people hear only that there was something: whoever shows
    a list of jobs fetches it anew for one message as for a thousand."""
    if len(jobs) <= MANY:
        for job in jobs:
            tell(job)
        return
    news: list[tuple[str, object, dict[str, object]]] = []
    for job in jobs:
        if job.face:
            topic, _, id = job.face.partition(".")
            news.append((topic, id, _facts(job)))
    news += [("person", owner, {}) for owner in sorted({job.owner_id for job in jobs})]
    publish_all(news)


def tell_gateways(job: Job, *, before: JobState, after: JobState) -> None:
    """A job that begins or ends to serve changes who can be reached; gateways should not wait for their next look."""
    if job.face and JobState.RUNNING in (before, after):
        topic, _, id = job.face.partition(".")
        publish("gateway", "all", **{topic: id})


def _facts(job: Job) -> dict[str, object]:
    return {"job": job.pk, "version": job.version, "state": str(job.state)}
