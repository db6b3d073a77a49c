"""What a person asks for when he submits a job, before anybody has looked whether it can be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from scheduling.core.cluster import Need
from scheduling.models import Job
from scheduling.records.ranges import TaskRange
from tenants.models import Team, User

#: the time limit of a job that names none
DEFAULT_LIMIT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What to run and what it needs, for each replica; all replicas start or none. cpu_millis: thousandths of a core.

    script: text that runs instead of a program of the image; `command` is then its arguments. At most one of gpus, mig
    (a profile) and thousandths (a share of one card) is set. retries: how often it may be tried again, by cause, see
    `records/retries.py`. array: tasks of an array, one row until they get a place; None: a job of its own.
    pools, gpu_models: acceptable ones, best first; empty: any. required, preferred: the level of the topology,
    `node`, or `island` (GPUs of one node that NVLink links), within which all replicas must, or should, lie; the job
    waits for the first, never for the second. limit: of RUNNING time. min_runtime: once it runs it is not evicted for
    so long. Only what is `preemptible` may borrow from other teams, and only it is ever evicted.
    """

    name: str
    image: str
    limit: timedelta
    kind: str = "notebook"
    face: str = ""
    command: tuple[str, ...] = ()
    script: str = ""
    env: dict[str, str] = field(default_factory=dict)
    volume: str = ""
    port: int = 0
    probe_path: str = "/"
    # what it needs
    gpus: int = 0
    mig: str = ""
    thousandths: int = 0
    cpu_millis: int = 1000
    memory_mib: int = 1024
    replicas: int = 1
    gpu_memory_mib: int = 0
    gpu_models: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    required: str = ""
    preferred: str = ""
    needs: tuple[Need, ...] = ()
    # when, and before whom
    tier: str = "normal"
    priority: int = 0
    preemptible: bool = False
    suspendable: bool = False
    min_runtime: timedelta = timedelta()
    not_before: datetime | None = None
    deadline: datetime | None = None
    # how often
    retries: Mapping[str, int] = field(default_factory=dict)
    retry_exit_codes: tuple[int, ...] = ()
    array: TaskRange | None = None

    def as_job(self, *, team: Team, owner: User, now: datetime) -> Job:
        """The row that it would be; not saved, and nothing checked."""
        return Job(
            team=team,
            owner=owner,
            kind=self.kind,
            face=self.face,
            name=self.name,
            image=self.image,
            command=list(self.command),
            script=self.script,
            env=self.env,
            volume=self.volume,
            port=self.port,
            probe_path=self.probe_path,
            gpus=self.gpus,
            mig=self.mig,
            thousandths=self.thousandths,
            cpu_millis=self.cpu_millis,
            memory_mib=self.memory_mib,
            replicas=self.replicas,
            gpu_memory_mib=self.gpu_memory_mib,
            gpu_models=list(self.gpu_models),
            pools=list(self.pools),
            required=self.required,
            preferred=self.preferred,
            needs=[{"key": need.key, "values": list(need.values), "absent": need.absent} for need in self.needs],
            tier=self.tier,
            priority=self.priority,
            preemptible=self.preemptible,
            suspendable=self.suspendable,
            min_runtime=self.min_runtime,
            not_before_at=self.not_before,
            deadline_at=self.deadline,
            limit=self.limit,
            retries=dict(self.retries),
            retry_exit_codes=list(self.retry_exit_codes),
            **(self.array.columns() if self.array else {}),
            submitted_at=now,
            since_at=now,
        )


def home_of(*, team: Team, owner: User) -> str:
    """The volume that is this person's home in this team: his workspaces and jobs there share it."""
    return f"home-{team.pk}-{owner.pk}"
