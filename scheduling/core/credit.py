"""What a team is owed for guaranteed work that fell for somebody's critical job.

A team's past is the decayed mean of what it had above its guarantee: it moves by (above - mean) * ln 2 / half-life each
second (`decay.aged` is that, exactly). So L unit-seconds of use above the guarantee, had at one moment, raise the mean
by L * ln 2 / half-life, and as many lost ones lower it by as much:

    fall = lost * ln 2 / half-life, in units, rounded up: for whoever lost it

From there it fades like everything else, and a mean may be below 0: then the share is that much smaller. The credit
goes to the victim's team and to every team above it that is not above the beneficiary as well; those lost nothing, the
work stayed in the house. Without a half-life the past counts nothing, and so does a credit.

Berth's own rule: KAI and Kueue never take guaranteed work, Armada only measures what was lost.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scheduling.core.candidates import Victim
from scheduling.core.decay import BITS
from scheduling.core.decisions import Credit
from scheduling.core.taking import Taking

if TYPE_CHECKING:
    from scheduling.core.books import Books

#: ln 2 in fixed point of `decay.BITS` binary digits
LN2 = 2_977_044_472


def fall(lost: int, half_life_s: int) -> int:
    """Units by which a decayed mean falls for so many lost unit-seconds."""
    return -(-lost * LN2 // (half_life_s << BITS)) if half_life_s > 0 else 0


def credits_for(state: "Books", taking: Taking, victims: Sequence[Victim]) -> list[Credit]:
    """One credit for each victim of another team that lay within its guarantee. Only critical work takes those."""
    if not any(victim.guaranteed for victim in victims):
        return []
    pool = taking.want.pool
    above = {account.team for account in state.account(pool, taking.want.team).path()}
    credits = []
    for victim in sorted(victims, key=lambda victim: victim.job):
        if victim.guaranteed and victim.team != taking.want.team:
            teams = tuple(a.team for a in state.account(pool, victim.team).path() if a.team not in above)
            mean = fall(victim.lost, state.policy.half_life_s)
            if teams and mean:
                credits.append(Credit(victim.job, taking.want.job, pool, teams, victim.lost, mean))
    return credits
