"""Every knob of a decision, with its unit and default, in one frozen place."""

from dataclasses import dataclass
from enum import StrEnum


class SizeRule(StrEnum):
    """How a tier orders jobs that are equal in everything before: by size, or only by age."""

    NONE = "none"
    SHORTEST = "shortest"  # shortest time limit first
    ATTAINED = "attained"  # least service so far first, in geometric levels: for run times that nobody knows


@dataclass(frozen=True, slots=True)
class Tier:
    """A class of work; `Policy.tiers` lists them, the first goes first. `critical` must be granted by policy: it goes
    before every other order and may take guaranteed work of others. `rotate`: its suspendable jobs may share GPUs in
    turns."""

    name: str
    critical: bool = False
    size_rule: SizeRule = SizeRule.NONE
    rotate: bool = False


DAY = 86_400


@dataclass(frozen=True, slots=True)
class Policy:
    # -- order
    tiers: tuple[Tier, ...] = (
        Tier("production"),
        Tier("normal"),
        Tier("batch", size_rule=SizeRule.ATTAINED, rotate=True),
    )
    #: after so long, past use above the guarantee counts half; 0: the past counts nothing
    half_life_s: int = 7 * DAY
    #: attained service is compared in so many levels: less than the base, then up to base * 4**n unit-seconds; the base
    #: is a GPU for ten minutes
    attained_base: int = 42_000 * 600
    attained_levels: int = 5

    # -- place
    #: names of the levels in `Node.path`, the widest first
    levels: tuple[str, ...] = ("block", "rack")
    #: CPU-only work on a GPU node leaves each free card this share of its part of CPU and memory, in percent
    cpu_kept_percent: int = 100
    #: cards may be cut into MIG instances, and free instances cut anew, when the queue needs it
    recut: bool = True

    # -- backfill
    #: so many jobs blocked by capacity get a reservation, per pool and top-level team
    reserve_depth: int = 8

    # -- eviction
    reclaim: bool = True
    balance: bool = True
    preempt: bool = True
    #: work runs at least so long before it may be evicted, unless its team or itself says more
    min_runtime_s: int = 0
    #: an evicted job evicts nobody for so long, or for twice its minimum runtime if that is more
    no_evict_s: int = 600
    #: from the notice to the hard stop
    grace_s: int = 30
    #: a claim lives for grace + suspend time + this
    claim_slack_s: int = 60
    #: more victims than this for one job are not looked for
    max_victims: int = 64

    # -- suspend and rotation (speeds measured on H100 and H200 cards)
    suspend: bool = True
    suspend_mib_per_s: int = 1_650
    resume_mib_per_s: int = 4_600
    #: whatever is suspendable keeps its work and may go on anywhere (replayed traces, jobs that save their state by
    #: themselves): suspending costs nothing, needs no memory and pins nothing
    keeps_work: bool = False
    #: a suspended job waits at most so long for its GPUs, then it is requeued
    max_parked_s: int = 4 * 3600
    #: a turn lasts at least so long, and at least `turn_factor` times what a suspend and a resume cost
    turn_s: int = 600
    turn_factor: int = 20

    # -- time-outs
    #: a placed job whose node shows no progress (no byte of the image, no container) for so long is stopped
    place_timeout_s: int = 600
    #: a started container whose server does not answer for so long is stopped
    start_timeout_s: int = 120

    def suspend_cost_s(self, saved_mib: int) -> int:
        """Seconds that it takes to save so much of GPU memory and to load it again; parts of a job go in parallel."""
        if self.keeps_work:
            return 0
        return self.suspend_s(saved_mib) + self.resume_s(saved_mib)

    def suspend_s(self, saved_mib: int) -> int:
        """Seconds that it takes to save so much GPU memory of a job; its parts go in parallel."""
        return 1 + saved_mib // self.suspend_mib_per_s

    def resume_s(self, saved_mib: int) -> int:
        """Seconds that it takes to bring it back."""
        return 1 + saved_mib // self.resume_mib_per_s
