"""What a replay assumes beyond the trace: what is known of run times, who may be suspended, what a preemption costs."""

from dataclasses import dataclass
from enum import StrEnum

from scheduling.core.policy import DAY, Policy
from scheduling.simulator.traces.job import TraceJob


class Limits(StrEnum):
    """What the scheduler is told about run times."""

    TRACE = "trace"  # the limits that the trace states; where it states none, `Options.default_limit_s`
    EXACT = "exact"  # the true run time, as an oracle would know it
    UNKNOWN = "unknown"  # nothing: every job gets `Options.default_limit_s`


class Suspendable(StrEnum):
    TRACE = "trace"  # the jobs of which the trace says so
    NONE = "none"
    ONE_NODE = "one_node"  # whatever runs on one node, as measured (see data on suspending)
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Options:
    """`cost_s`: seconds of its run time that a preempted job loses, as (up to so many GPUs, seconds). `default_tier`:
    that of jobs which name none, or none that the policy has; where it lacks this one too, its last tier. `sample_s`:
    the cluster is measured so often; 0: as often as suits the length of the trace."""

    limits: Limits = Limits.TRACE
    default_limit_s: int = 30 * DAY
    suspendable: Suspendable = Suspendable.TRACE
    cost_s: tuple[tuple[int, int], ...] = ()
    default_tier: str = "normal"
    sample_s: int = 3600
    #: while jobs wait and work must first run its minimum time, or suspending takes time, a plan is made so often
    look_s: int = 60
    #: every so many submissions, the job that comes is promised a start (the estimate's 90th percentile); 0: never
    promise_every: int = 0

    def tier_of(self, job: TraceJob, policy: Policy) -> str:
        """The tier in which it runs."""
        names = [tier.name for tier in policy.tiers]
        return next((name for name in (job.tier, self.default_tier) if name in names), names[-1])

    def limit_of(self, job: TraceJob) -> int:
        """The time limit that the scheduler is told, at least a second."""
        known = {Limits.TRACE: job.limit_s, Limits.EXACT: job.duration_s, Limits.UNKNOWN: None}[self.limits]
        return max(1, known if known is not None else self.default_limit_s)

    def may_suspend(self, job: TraceJob) -> bool:
        if self.suspendable is Suspendable.TRACE:
            return job.suspendable
        return self.suspendable is Suspendable.ALL or (self.suspendable is Suspendable.ONE_NODE and job.replicas == 1)

    def cost_of(self, job: TraceJob) -> int:
        """Seconds lost by one preemption."""
        last = self.cost_s[-1][1] if self.cost_s else 0
        return next((seconds for most, seconds in self.cost_s if job.all_gpus <= most), last)
