"""What is wrong with where a job runs, in words for its people."""

from collections.abc import Mapping

from scheduling.core.lifecycle import JobState
from scheduling.models import Allocation, GpuEvent, Job, NodeState

DRAINED_BY = (
    "Its machine {node} is being emptied: at {at} UTC this is stopped, and goes back to the queue to start again "
    "elsewhere."
)
DRAINS = "Its machine {node} is being emptied: nothing new starts there, and this may run to its end."
DRAINS_SOON = (
    "Its machine {node} is being emptied: once this has had its minimum runtime it is stopped, and goes back to the "
    "queue to start again elsewhere."
)


def trouble_of(job: Job, lead: Allocation | None, error: GpuEvent | None) -> str:
    """What is wrong with where it runs, and what its GPUs reported while it ran."""
    sentences = []
    if lead is not None and lead.released_at is None:
        node = lead.node
        sentences.append(node.trouble)
        if node.state == NodeState.DRAINING and job.state != JobState.STOPPING:
            pattern = DRAINED_BY if node.drain_by else DRAINS_SOON if job.preemptible else DRAINS
            sentences.append(pattern.format(node=node.name, at=node.drain_by and f"{node.drain_by:%Y-%m-%d %H:%M}"))
    if error is not None:
        sentences.append(f"GPU {error.gpu.index}: {error.sentence}")
    return " ".join(filter(None, sentences))


def reported_errors(attempts: Mapping[int, int]) -> dict[int, GpuEvent]:
    """The latest error that a GPU reported of each job's present attempt, by job; in one query."""
    events = GpuEvent.objects.filter(job__in=list(attempts)).select_related("gpu").order_by("id")
    return {event.job_id: event for event in events if event.job_id and event.attempt == attempts[event.job_id]}
