"""What the outside hears of a job: browsers that show it, its owner's pages, and the gateways that serve it."""

from portal.kernel.publish import publish
from scheduling.core.lifecycle import JobState
from scheduling.models import Job


def tell(job: Job, **small: int) -> None:
    """Say, once the transaction commits, that `job` changed. `small`: the few numbers that a page shows at once."""
    facts = {"job": job.pk, "version": job.version, "state": str(job.state), **small}
    publish("job", job.pk, **facts)
    publish("person", job.owner_id, **facts)
    if job.face:
        topic, _, id = job.face.partition(".")
        publish(topic, id, **facts)


def tell_gateways(job: Job, *, before: JobState, after: JobState) -> None:
    """A job that begins or ends to serve changes who can be reached; gateways should not wait for their next look."""
    if job.face and JobState.RUNNING in (before, after):
        topic, _, id = job.face.partition(".")
        publish("gateway", "all", **{topic: id})
