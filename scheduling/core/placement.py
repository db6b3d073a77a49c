"""Which slots: all replicas or none, where the largest holes survive.

    1. filter    nodes and cards that could ever hold a replica: pool, labels, models, memory      places/filters.py
    2. open      what one of them has free, without what others are promised                       places/openings.py
    3. choose    one replica: the node that keeps the fewest free cards (best fit, as KAI packs);  places/singles.py
                 a part of a card: where it adds least to fragmentation, cut cards first
                 a gang: the smallest topology domain that holds it, on as few nodes as possible   places/gangs.py
    4. take      it is the job's in the what-if ledger; whoever asks later does not see it

Every choice is total: ties end in the id.
"""

from scheduling.core.cluster import Part, Shape
from scheduling.core.ledger import Ledger
from scheduling.core.places.filters import Offer, Options, Want, merged, options_among
from scheduling.core.places.gangs import take_gang
from scheduling.core.places.openings import Openings
from scheduling.core.places.singles import one_replica
from scheduling.core.policy import Policy
from scheduling.core.promises import Promises
from scheduling.core.scores import Scores


class Search(Openings):
    """Finds places in a ledger without breaking a promise. `scores`: set where fragmentation is to be looked at."""

    def __init__(self, ledger: Ledger, promises: Promises, policy: Policy, team_of: dict[int, int]) -> None:
        super().__init__(ledger, promises, policy, team_of)
        self.scores: Scores | None = None
        self._options: dict[tuple[Shape, str], list[Options]] = {}
        self._offers: dict[tuple[object, ...], Offer] = {}

    def place(self, want: Want) -> tuple[Part, ...] | None:
        """Take a place for every replica, or take nothing and answer None."""
        for groups in self.options(want.shape, want.pool):
            if want.shape.replicas > 1:
                parts = take_gang(self, want, groups)
                if parts is not None:
                    return parts
            elif (part := one_replica(self, self.scores, want, groups)) is not None:
                self.ledger.take(want.job, part)
                return (part,)
        return None

    def would_go(self, want: Want) -> Part | None:
        """Where a job of one replica would go if no limit stood in its way. Whoever falls for it then falls for the
        limits alone, and may do so anywhere. None for a gang, and where there is no free place."""
        if want.shape.replicas > 1:
            return None
        found = (one_replica(self, self.scores, want, groups) for groups in self.options(want.shape, want.pool))
        return next((part for part in found if part is not None), None)

    def options(self, shape: Shape, pool: str) -> list[Options]:
        """The groups that could ever hold a replica, with the bits of the cards that suit it; the liked models first.
        Kept until the groups change."""
        found = self._options.get((shape, pool))
        if found is None:
            found = self._options[shape, pool] = options_among(self.ledger.groups.values(), shape, pool)
        return found

    def offer(self, shape: Shape, form: int, pools: tuple[str, ...]) -> Offer:
        """The groups of these pools for a shape of this form; the same object for all to which the same ones suit."""
        options = tuple((pool, merged(self.options(shape, pool))) for pool in pools)
        key = (form, *((pool, id(group), cards) for pool, groups in options for group, cards in groups))
        return self._offers.setdefault(key, Offer(options))

    def forget_options(self) -> None:
        """The groups changed: nodes came, went or were labelled anew."""
        self._options.clear()
        self._offers.clear()
