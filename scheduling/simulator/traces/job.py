"""What every trace format is turned into: one frozen job, with what it asked for and what really happened to it."""

from dataclasses import dataclass, field

from scheduling.core.cluster import Need

WHOLE = 1000  #: thousandths of a whole card


@dataclass(frozen=True, slots=True)
class TraceJob:
    """Amounts are per replica. Seconds are on the trace's own axis.

    `duration_s` is what the work takes on its GPUs, None if it never ends in the trace. `limit_s` is what its owner
    stated, None if the trace does not say: the two must never be mixed up, a scheduler may see only the second.
    """

    id: str
    submit_s: int
    duration_s: int | None
    gpus: int = 0
    gpu_thousandths: int = WHOLE  # of each card; less than 1000 only with `gpus` = 1
    replicas: int = 1
    limit_s: int | None = None
    team: str = ""
    user: str = ""
    tier: str = ""
    priority: int = 0
    cpu_millis: int = 0
    memory_mib: int = 0
    gpu_memory_mib: int = 0
    mig: str = ""  # a MIG profile such as 2g.20gb: each replica has one instance, and `gpus` is 1
    models: tuple[str, ...] = ()  # acceptable GPU models, best first; empty = any
    pools: tuple[str, ...] = ()  # pools in order; empty = any
    topology_required: str = ""  # a level such as rack within which all replicas must lie
    topology_preferred: str = ""
    needs: tuple[Need, ...] = ()  # labels of the node
    deadline_s: int | None = None
    not_before_s: int | None = None
    preemptible: bool = True
    suspendable: bool = False
    min_runtime_s: int = 0  # once started it is left alone for so long
    saved_mib: int = 0  # of GPU memory that suspending saves, per replica; 0: not known
    line: int = field(default=0, compare=False)  # where it stands in its file, for messages

    @property
    def all_gpus(self) -> float:
        """Cards held by the whole gang, fractions counted as such."""
        return self.replicas * self.gpus * self.gpu_thousandths / WHOLE

    @property
    def milli_gpus(self) -> int:
        return self.replicas * self.gpus * self.gpu_thousandths
