"""What may be asked of the scheduler: submit, cancel, stop everything."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction

from portal.kernel.errors import Rejected
from scheduling.core.lifecycle import FINAL, REQUEUED, EndReason, JobEvent, JobState
from scheduling.enact import wake_on_commit
from scheduling.models import Allocation, Gpu, Job, JobTransition, Node, NodeState
from scheduling.news import tell
from scheduling.transitions import StaleJob, move_job
from scheduling.wiring import wired
from tenants.models import Team, User
from tenants.permissions import may_submit


class NotYourTeam(Rejected):
    """You cannot run work in the team '{team}'; choose one that you are a member of."""

    field = "team"


class TooManyGpus(Rejected):
    """You asked for {asked} GPUs on one machine; the largest has {largest}. Ask for {largest} or fewer."""

    field = "gpus"


class TooMuchCpu(Rejected):
    """You asked for {asked} CPU cores; the largest machine with the GPUs you want has {largest}."""

    field = "cpus"


class TooMuchMemory(Rejected):
    """You asked for {asked} GiB of memory; the largest machine with the GPUs you want has {largest} GiB."""

    field = "memory_gib"


class NothingToRunOn(Rejected):
    """No machine has reported to Berth yet, so nothing can be started; try again in a moment."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What to run and what it needs, for each replica. cpu_millis: thousandths of a core."""

    name: str
    image: str
    limit: timedelta
    kind: str = "notebook"
    face: str = ""
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    volume: str = ""
    port: int = 0
    probe_path: str = "/"
    gpus: int = 0
    cpu_millis: int = 1000
    memory_mib: int = 1024


def refuse_what_never_fits(*, gpus: int, cpu_millis: int, memory_mib: int) -> None:
    """Raise the first reason why no enrolled machine could ever run this. GPUs, then CPU, then memory."""
    machines = _machines()
    if not machines:
        raise NothingToRunOn()
    most = max(count for count, _, _ in machines)
    if gpus > most:
        raise TooManyGpus(asked=gpus, largest=most)
    machines = [machine for machine in machines if machine[0] >= gpus]
    cpu = max(cpu for _, cpu, _ in machines)
    if cpu_millis > cpu:
        raise TooMuchCpu(asked=f"{cpu_millis / 1000:g}", largest=f"{cpu / 1000:g}")
    memory = max(memory for _, cpu, memory in machines if cpu >= cpu_millis)
    if memory_mib > memory:
        raise TooMuchMemory(asked=f"{memory_mib / 1024:g}", largest=f"{memory // 1024}")


def _machines() -> list[tuple[int, int, int]]:
    """(GPUs, thousandths of a core, MiB) of every machine that is in the pool for good."""
    nodes = Node.objects.exclude(state__in=[NodeState.LOST, NodeState.FENCED])
    gpus: dict[int, int] = {}
    for node_id in Gpu.objects.filter(retired_at__isnull=True).values_list("node_id", flat=True):
        gpus[node_id] = gpus.get(node_id, 0) + 1
    return [(gpus.get(node.pk, 0), node.cpu_millis, node.memory_mib) for node in nodes]


def submit_job(*, by: User, team: Team, spec: JobSpec, now: datetime) -> Job:
    """Queue a job. Permission and never-fits are checked here, once, for every edge."""
    if not may_submit(by, team):
        raise NotYourTeam(team=team.slug)
    refuse_what_never_fits(gpus=spec.gpus, cpu_millis=spec.cpu_millis, memory_mib=spec.memory_mib)
    with transaction.atomic():
        job = Job.objects.create(
            team=team,
            owner=by,
            kind=spec.kind,
            face=spec.face,
            name=spec.name,
            image=spec.image,
            command=list(spec.command),
            env=spec.env,
            volume=spec.volume,
            port=spec.port,
            probe_path=spec.probe_path,
            gpus=spec.gpus,
            cpu_millis=spec.cpu_millis,
            memory_mib=spec.memory_mib,
            limit=spec.limit,
            submitted_at=now,
            since_at=now,
        )
        JobTransition.objects.create(job=job, attempt=0, to_state=job.state, event="submit", at=now)
        tell(job)
        transaction.on_commit(wired().hint_tick)
    return job


def cancel_job(*, job: Job, now: datetime, message: str = "", reason: EndReason = EndReason.CANCEL) -> Job:
    """Take a job off the queue, or stop it where it runs. A job that is stopping or has ended is left as it is."""
    with transaction.atomic():
        for _ in range(3):  # the scheduler or a report may have moved it in the meantime
            job.refresh_from_db()
            if job.state in FINAL:
                return job
            if job.state == JobState.STOPPING:
                _forget_its_return(job, message, reason)
                return job
            event = JobEvent.END if job.state == JobState.QUEUED else JobEvent.STOP
            try:
                move_job(job, event, now=now, reason=reason, code=str(reason), message=message)
                break
            except StaleJob:
                continue
        else:
            raise StaleJob(job=job.pk)
        nodes = Allocation.objects.filter(job=job, released_at__isnull=True).values_list("node_id", flat=True)
        wake_on_commit(set(nodes))
        transaction.on_commit(wired().hint_tick)
    return job


def _forget_its_return(job: Job, message: str, reason: EndReason) -> None:
    """It stops already; the first reason is kept, but where that would send it back to the queue it now ends there."""
    if reason is EndReason.CANCEL and EndReason(job.end_reason) in REQUEUED:
        Job.objects.filter(pk=job.pk, state=JobState.STOPPING, version=job.version).update(cancel_asked=message[:200])


def stop_all(*, reason: EndReason, now: datetime) -> int:
    """Stop everything that holds a slot; what only waits goes on waiting. Answers how many jobs are stopping."""
    holding = Job.objects.filter(allocations__released_at__isnull=True).exclude(state__in=[*FINAL]).distinct()
    stopping = 0
    for job in holding:
        if job.state not in (JobState.QUEUED, JobState.STOPPING):
            stopping += 1
            cancel_job(job=job, now=now, reason=reason, message="The portal was stopped.")
    return stopping
