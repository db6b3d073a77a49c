"""One job that looks for victims, and which set of victims is the better one."""

from collections.abc import Iterable

from scheduling.core.candidates import Victim
from scheduling.core.cluster import Ask, Part, fell_at
from scheduling.core.places.filters import Want
from scheduling.core.policy import Policy
from scheduling.core.queue import NEVER, Kind
from scheduling.core.quota import Account

SetKey = tuple[bool, int, int, int, int, tuple[int, ...]]


def cost_of(victims: Iterable[Victim]) -> SetKey:
    """The stated order, as a key: the smaller set of victims is the better one."""
    chosen = tuple(victims)
    if len(chosen) == 1:
        only = chosen[0]
        return (only.guaranteed, -only.tier, only.lost, 1, -only.size, (only.job,))
    return (
        any(v.guaranteed for v in chosen),
        -min((v.tier for v in chosen), default=1 << 30),
        sum(v.lost for v in chosen),
        len(chosen),
        -min((v.size for v in chosen), default=0),
        tuple(sorted(v.job for v in chosen)),
    )


def followers_of(ask: Ask, policy: Policy) -> range:
    """When those started who may have the place of a job since it was evicted: from when it left for as long as the
    claim that it fell for may take. Empty where it never was."""
    fell = fell_at(ask, no_evict_s=policy.no_evict_s)
    if not fell:
        return range(0)
    claim_s = policy.grace_s + policy.suspend_s(ask.saved_mib) + policy.claim_slack_s
    return range(fell, max(fell, ask.suspended_at) + claim_s + 1)


class Taking:
    """One job that looks for victims, and what has been found out for it on the way."""

    __slots__ = ("allowed", "any_class", "asked", "barred", "beside", "cards", "domain", "firm", "followers", "free",
                 "higher", "kind", "least", "lenders", "others", "own", "size", "turns", "units", "want")  # fmt: skip

    def __init__(self, want: Want, kind: Kind, units: int) -> None:
        self.want, self.kind, self.units, self.size = want, kind, units, 0
        #: units for which the limits must have room by now: a gang's victims are found replica by replica, and those of
        #: the replicas so far make room for no more than these
        self.asked = units
        #: a place for its one replica that is free already, where it is limits alone that keep it from there: victims
        #: may then lie on any node
        self.free: Part | None = None
        #: it would sit on its cards longer than anybody may be suspended: its victims are stopped
        self.firm = False
        #: it was evicted itself: it takes by balance from nobody who started in this time, among whom is the one that
        #: has its place. Did that keep it from anybody whom it might have taken?
        self.followers, self.barred = range(0), False
        #: may it take from lower tiers of its own team, from other teams, from others' guaranteed work?
        self.own = self.others = self.any_class = False
        #: may it take from other teams once lower tiers of its own team make room within its guarantee?
        self.beside = False
        #: the other teams from which it may take; None: that depends on each run
        self.lenders: set[int] | None = None
        #: from its own team: is there work of lower tiers, work that might take turns with it?
        self.higher = self.turns = False
        #: group -> suitable cards; the nodes of the domain that is being looked at, or None for all
        self.cards: dict[int, int] = {}
        self.domain: set[int] | None = None
        self.allowed: dict[int, dict[tuple[int, int, bool, int], bool]] = {}
        self.least: dict[int, int] = {}


class Lender:
    """Another team as the one that asks sees it: units of its smallest borrowed run, and the sides of the lowest common
    ancestor. As of version `at` of the rights it lends so many units (-NEVER: not known to), and refuses so many."""

    __slots__ = ("account", "at", "lends", "my_side", "refuses", "smallest", "their_side")

    def __init__(self, account: Account, smallest: int, my_side: int, their_side: int) -> None:
        self.account, self.smallest = account, smallest
        self.my_side, self.their_side = my_side, their_side
        self.at = 0
        self.forget()

    def forget(self) -> None:
        self.lends, self.refuses = -NEVER, NEVER
