"""What happened in a replay: one record per job, and how the cluster was used over time."""

from dataclasses import dataclass, field

from scheduling.core.units import GPU_UNITS
from scheduling.simulator.traces.job import TraceJob


@dataclass(slots=True)
class Record:
    """One job's way. Times on the trace's axis, None until they come. `wait_s` is all the time that it did not run:
    completion minus submission minus the work itself, so what a preemption cost is part of it. `units`: what it holds
    of GPUs while it runs. `deadline_accepted`: None where it has no deadline, or nobody weighs any."""

    job: TraceJob
    number: int
    team: int
    first_start: int | None = None
    end: int | None = None
    timed_out: bool = False
    suspensions: int = 0
    requeues: int = 0
    lost_s: int = 0  # of its run time: thrown away by requeues, and spent on preemptions
    promised: int | None = None  # the estimate (P90) of its start, where one was made
    units: int = 0
    deadline_accepted: bool | None = None

    @property
    def completion_s(self) -> int | None:
        return None if self.end is None else self.end - self.job.submit_s

    @property
    def wait_s(self) -> int | None:
        """None for jobs that never end; then what counts is when they started."""
        if self.end is not None and self.job.duration_s is not None:
            worked = min(self.job.duration_s, self.end - self.job.submit_s)
            return self.end - self.job.submit_s - worked
        return None if self.first_start is None else self.first_start - self.job.submit_s

    @property
    def gpus(self) -> float:
        """Cards, a MIG instance as the part that it is."""
        return self.units / GPU_UNITS if self.job.mig and self.units else self.job.all_gpus

    @property
    def lost_gpu_s(self) -> float:
        return self.lost_s * self.gpus

    @property
    def deadline_met(self) -> bool | None:
        """Was its work done in time? None: it has no deadline."""
        if self.job.deadline_s is None:
            return None
        return self.end is not None and not self.timed_out and self.end <= self.job.deadline_s


@dataclass(slots=True)
class Sample:
    """Means over one stretch of time, `span_s` long, and the state at its end."""

    at: int
    span_s: int
    used: float  # share of all GPU units held, 0 to 1
    fragmented: float  # share of the free cards that is of no use to the asks seen, 0 to 1
    waiting: int
    used_by_team: dict[int, float]  # GPUs


@dataclass(slots=True)
class History:
    records: list[Record] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    plans: int = 0
    gpus: int = 0
    began: int = 0
    ended: int = 0

    @property
    def finished(self) -> list[Record]:
        return [record for record in self.records if record.end is not None]

    @property
    def mean_wait_s(self) -> float:
        waits = [record.wait_s for record in self.records if record.wait_s is not None]
        return sum(waits) / len(waits) if waits else 0.0
