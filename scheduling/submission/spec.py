"""What a person asks for when he submits a job, before anybody has looked whether it can be."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from scheduling.core.cluster import Need
from scheduling.models import Job
from tenants.models import Team, User


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What to run and what it needs, for each replica; all replicas start or none. cpu_millis: thousandths of a core.

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
    env: dict[str, str] = field(default_factory=dict)
    volume: str = ""
    port: int = 0
    probe_path: str = "/"
    # what it needs
    gpus: int = 0
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
            env=self.env,
            volume=self.volume,
            port=self.port,
            probe_path=self.probe_path,
            gpus=self.gpus,
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
            submitted_at=now,
            since_at=now,
        )
