"""What becomes of one job of a trace while it is replayed."""

from dataclasses import dataclass

from scheduling.core.cluster import Ask, Run
from scheduling.simulator.history import Record
from scheduling.simulator.options import Options


@dataclass(slots=True)
class Life:
    """A job that is waiting or running: what it has done in this attempt, and what is still to do. `ends`: its present
    run ends by itself."""

    record: Record
    ran_s: int = 0
    left_s: int | None = None
    attempt: int = 0
    ends: bool = False
    run: Run | None = None
    ask: Ask | None = None

    def lose_run(self, options: Options) -> int:
        """What it ran is thrown away. The limit with which it begins anew."""
        self.record.requeues += 1
        self.record.lost_s += self.ran_s
        self.ran_s, self.left_s = 0, self.record.job.duration_s
        return options.limit_of(self.record.job) + self.charge(options)

    def charge(self, options: Options, spent: int = 0) -> int:
        """What the preemption itself costs: so much more to do on the same GPUs, in seconds. `spent`: what suspending
        and resuming take by the policy's speeds, where the options say nothing else."""
        cost = options.cost_of(self.record.job) + spent
        self.record.lost_s += cost
        if self.left_s is not None:
            self.left_s += cost
        return cost
