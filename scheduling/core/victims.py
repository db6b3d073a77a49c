"""Whose work may fall for whom.

May A take from B? Judged at the lowest common ancestor of the two teams, before each victim is taken (KAI's reclaim,
with Berth's guarantees):

    reclaim    A's side stays within its guarantee with the ask; B's side and every team on the way down to the victim
               are above theirs
    balance    the same for B; A's share afterwards is not above B's share afterwards (Kueue:
               LessThanOrEqualToFinalShare); a job that was evicted takes so from nobody who followed it
    preempt    within one team a higher tier takes from a lower
    turns      in a tier that rotates, from suspendable work that had its turn and comes after by size: within one
               team, or where both borrow and B has the larger share
    critical   takes anything of lower tiers while its own team stays within its guarantee

Nothing else ever falls. The order among sets of victims: none of them within a guarantee before some, the highest tier
among them as low as possible, least work lost, fewest, those that come last by the size rule, ids.

Long because every right reads the same accounts and what is remembered about them.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

from scheduling.core.candidates import Candidates, Victim, all_stopped
from scheduling.core.places.filters import Want
from scheduling.core.policy import SizeRule
from scheduling.core.queue import Kind
from scheduling.core.quota import Account, sides
from scheduling.core.taking import Lender, Taking

if TYPE_CHECKING:
    from scheduling.core.plan import Cycle

#: (weight is 0, share), as `Shares` gives it
Share = tuple[int, int]


class Rights:
    """Who may take what from whom, as the accounts stand while a cycle goes on. `moved` tells it of every change."""

    def __init__(self, cycle: "Cycle", candidates: Candidates) -> None:
        self.cycle, self.state, self.now, self.policy = cycle, cycle.state, cycle.now, cycle.policy
        self.candidates = candidates
        self._version = 0
        self._moves: dict[int, int] = {}
        self._takings: dict[tuple[str, int, int, int], tuple[int, Taking]] = {}
        self._lenders: dict[tuple[str, int, int], tuple[int, set[int]]] = {}
        self._known_lenders: dict[tuple[str, int], list[Lender]] = {}
        self._known_sides: dict[tuple[int, int], tuple[Account, Account]] = {}
        self._shares_of: dict[tuple[str, int, int], tuple[int, tuple[Share, Share]]] = {}
        self._leaving: dict[tuple[str, int], int] = {}
        for job in sorted(candidates.gone):
            self.leaves(job)

    def leaves(self, job: int) -> None:
        """It is going already: what of its units nobody has taken over is no reason to take more from its teams. They
        would fall below their share, and take it back."""
        held = self.state.held.get(job)
        if held is not None and held.units > held.handed and job in self.state.runs:
            for account in self.state.account(held.pool, held.team).path():
                key = (held.pool, account.team)
                self._leaving[key] = self._leaving.get(key, 0) + held.units - held.handed

    def moved(self, pool: str, team: int) -> None:
        """What this team holds there has changed, and with it the sums of all teams above it."""
        self._version += 1
        for account in self.state.trees[pool].account(team).path():
            self._moves[account.team] = self._version

    # ---------------------------------------------------------------------------------------- from whom
    def taking(self, want: Want, kind: Kind, units: int, size: int) -> Taking:
        """From whom may this job take anything at all? The answer holds for all that are like it while nobody gains or
        loses anything. It notes where to look: among lower tiers and turns of its own team, among borrowed work of
        others (of any class where the job is critical)."""
        key = (want.pool, kind.team, kind.tier, units)
        version, taking = self._takings.get(key, (-1, None))
        if taking is None or version != self._version:
            taking = Taking(want, kind, units)
            self._look_around(taking)
            self._takings[key] = (self._version, taking)
        taking.want, taking.size = want, size
        served = taking.turns and self.candidates.most_served(want.pool, kind.team, kind.tier) > size
        taking.own = taking.higher or served
        return taking

    def _look_around(self, taking: Taking) -> None:
        kind, pool = taking.kind, taking.want.pool
        holdings = self.candidates.holdings(pool)
        taking.any_class = self._is_critical(kind)
        mine = holdings.get(kind.team)
        if mine is not None:
            taking.higher = self.policy.preempt and max(mine.tiers) > kind.tier
            taking.turns = self.rotates(kind) and kind.tier in mine.tiers
        taking.others = taking.any_class and len(holdings) > (mine is not None)
        if not taking.others:
            lenders = self._lending(pool, kind.team, taking.units)
            taking.others = bool(lenders)
            taking.lenders = None if self.rotates(kind) else lenders
        if mine is not None and taking.higher:
            own = sum(units for tier, units in mine.tiers.items() if tier > kind.tier)
            taking.beside = self._then_owed(taking, own)
        if not taking.others and self.rotates(kind):
            taking.others = any(
                team != kind.team and kind.tier in held.tiers and self._alternate(taking, team, held.least_borrowed)
                for team, held in holdings.items()
            )

    def _lending(self, pool: str, team: int, units: int) -> set[int]:
        """The other teams from which so many units may be taken. What may be taken of a team at all, may be of its
        smallest run. Who lends so much, lends less, and who refuses, refuses more, until their side or ours moves."""
        version, found = self._lenders.get((pool, team, units), (-1, set[int]()))
        if version == self._version:
            return found
        found, moves, mine = set(), self._moves, self.state.trees[pool].account(team)
        for lender in self._known_lenders.get((pool, team)) or self._lenders_to(pool, team):
            if moves.get(lender.my_side, 0) > lender.at or moves.get(lender.their_side, 0) > lender.at:
                lender.forget()
            if lender.lends < units < lender.refuses:
                if self._lends(pool, mine, lender.account, units, lender.smallest):
                    lender.lends = units
                else:
                    lender.refuses = units
                lender.at = self._version
            if units <= lender.lends:
                found.add(lender.account.team)
        self._lenders[pool, team, units] = self._version, found
        return found

    def _lenders_to(self, pool: str, team: int) -> list[Lender]:
        """All other teams with borrowed work that may be evicted."""
        tree, lenders = self.state.trees[pool], []
        mine = tree.account(team)
        for other, held in self.candidates.holdings(pool).items():
            if other != team and held.least_borrowed >= 0:
                theirs = tree.account(other)
                my_side, their_side = self._sides(mine, theirs)
                lenders.append(Lender(theirs, held.least_borrowed, my_side.team, their_side.team))
        self._known_lenders[pool, team] = lenders
        return lenders

    def rotates(self, kind: Kind) -> bool:
        """May jobs of this kind take turns with their likes? (Without a size rule all are of one size, and nobody comes
        after anybody.)"""
        tier = self.policy.tiers[kind.tier] if kind.tier < len(self.policy.tiers) else None
        if tier is None or not tier.rotate or tier.size_rule is SizeRule.NONE:
            return False
        return self.candidates.some_suspend()

    def _is_critical(self, kind: Kind) -> bool:
        tiers = self.policy.tiers
        return kind.tier < len(tiers) and tiers[kind.tier].critical

    # ---------------------------------------------------------------------------------------- may it?
    def beside(self, node: int, taking: Taking) -> int:
        """Units that the job's own team holds on the node in lower tiers. Once they are gone, it may be owed what it
        is not owed now."""
        if not taking.beside:
            return 0
        own, tier = taking.want.team, taking.kind.tier
        units = sum(
            victim.units for victim in self.candidates.on_host(node) if victim.team == own and victim.tier > tier
        )
        return units if units and self._then_owed(taking, units) else 0

    def _then_owed(self, taking: Taking, own: int) -> bool:
        """Is the job beyond a guarantee, its team's or one above, that would hold it once so many units of its own
        team's had gone? (What balance would give it then is not asked: shares would have to be worked out per node.)"""
        if not self.policy.reclaim:
            return False
        account: Account | None = self.state.trees[taking.want.pool].account(taking.want.team)
        while account is not None:
            if account.guarantees(taking.units - own) and not account.guarantees(taking.units):
                return True
            account = account.parent
        return False

    def on(self, node: int, taking: Taking, before: set[int], beside: int = 0) -> list[Victim]:
        """The runs on a node that this job may take, the cheapest first: now, or when so many units of its own team's
        have gone from `beside` them."""
        allowed, own = taking.allowed.setdefault(beside, {}), taking.want.team
        found = []
        here = self.candidates.on_host(node)
        for victim in all_stopped(here) if taking.firm else here:
            may = None if victim.team == own else allowed.get(victim.sort)
            if may is None:
                may = allowed[victim.sort] = self._may_take(taking, victim, beside=beside)
            may = may or self.takes_turn(taking, victim)
            if may and victim.job not in before and not self._calm(taking, victim):
                if taking.followers and self._takes_back(taking, victim):
                    taking.barred = True
                else:
                    found.append(victim)
        return found

    def _takes_back(self, taking: Taking, victim: Victim) -> bool:
        """Is it balance alone by which a job that was evicted would take from a run that followed it? Whoever has its
        place is among those, and shares that others have moved in the meantime are no reason to swap once more."""
        if victim.team == taking.want.team or self.state.runs[victim.job].held_at not in taking.followers:
            return False
        tree, kind, units = self.state.trees[taking.want.pool], taking.kind, taking.units
        mine, theirs = tree.account(taking.want.team), tree.account(victim.team)
        owed = self.policy.reclaim and self._sides(mine, theirs)[0].guarantees(units)
        critical = taking.any_class and victim.tier > kind.tier and mine.guarantees(units)
        return not (owed or critical or self.takes_turn(taking, victim))

    def _may_take(self, taking: Taking, victim: Victim, *, beside: int = 0, trial: bool = False) -> bool:
        """One victim, as the accounts stand now, or without so many units of the own team's. `trial`: they have been
        moved without a word about it."""
        kind, pool, units = taking.kind, taking.want.pool, taking.units - beside
        if victim.team == taking.want.team:
            return self.policy.preempt if victim.tier > kind.tier else self.takes_turn(taking, victim)
        tree = self.state.trees[pool]
        mine, theirs = tree.account(taking.want.team), tree.account(victim.team)
        if taking.any_class and victim.tier > kind.tier and mine.guarantees(units):
            return True
        if victim.guaranteed:
            return False
        return self._lends(pool, mine, theirs, units, victim.units, trial=trial)

    def takes_turn(self, taking: Taking, victim: Victim) -> bool:
        """Has the victim had its turn, and more service than the job that asks? Within one team that is all; between
        teams both must borrow."""
        kind = taking.kind
        if not victim.turn or victim.tier != kind.tier or victim.size <= taking.size or not self.rotates(kind):
            return False
        if victim.team == taking.want.team:
            return True
        return not victim.guaranteed and self._alternate(taking, victim.team, victim.units)

    def _alternate(self, taking: Taking, team: int, lent: int) -> bool:
        """May borrowed work of one team take turns with borrowed work of so many units of another? Only from a team
        that has the larger share and keeps it: with but one unit more than it is left with, it is still above what the
        asking team has now. Otherwise reclaim or balance would hand the cards back at once, and the two would swap
        them for ever."""
        tree = self.state.trees[taking.want.pool]
        mine, theirs = tree.account(taking.want.team), tree.account(team)
        if lent < 0 or mine.guarantees(taking.units) or not self.rotates(taking.kind):
            return False
        my_side, their_side = self._sides(mine, theirs)
        share = self.cycle.tournament.shares.of_team
        left = share(their_side.team, tree.pool, 1 - lent, history=False)
        return self._all_above(tree.pool, theirs, their_side) and left > share(
            my_side.team, tree.pool, 0, history=False
        )

    def _lends(self, pool: str, mine: Account, theirs: Account, units: int, lent: int, *, trial: bool = False) -> bool:
        """May borrowed work of so many units be taken from them for so many of mine: by reclaim or by balance?"""
        my_side, their_side = self._sides(mine, theirs)
        if not self._all_above(pool, theirs, their_side):
            return False
        if self.policy.reclaim and my_side.guarantees(units):
            return True
        if not self.policy.balance:
            return False
        # Both with the past and without it: what a team has had may stop it from taking, but never entitles two teams
        # to take the same cards from each other in turn.
        shares = self._shares if trial else self._known_shares
        lent += self._leaving.get((pool, their_side.team), 0)
        taker, giver = shares(pool, my_side.team, units), shares(pool, their_side.team, -lent)
        return taker[0] <= giver[0] and taker[1] <= giver[1]

    def _known_shares(self, pool: str, team: int, extra: int) -> tuple[Share, Share]:
        """The same as below, remembered until the team has moved."""
        key, moves = (pool, team, extra), self._moves.get(team, 0)
        known = self._shares_of.get(key)
        if known is None or known[0] != moves:
            known = self._shares_of[key] = (moves, self._shares(*key))
        return known[1]

    def _shares(self, pool: str, team: int, extra: int) -> tuple[Share, Share]:
        """Its share as if it held so much more (or less), without the past and with it."""
        of_team = self.cycle.tournament.shares.of_team
        return of_team(team, pool, extra, history=False), of_team(team, pool, extra, history=True)

    def _all_above(self, pool: str, account: Account, side: Account) -> bool:
        """Is every team from the victim's up to its side of the ancestor above its guarantee?"""
        node: Account | None = account
        leaving = self._leaving
        while node is not None:
            if node.used - (leaving.get((pool, node.team), 0) if leaving else 0) <= node.guaranteed:
                return False
            if node is side:
                return True
            node = node.parent
        return True

    def _sides(self, mine: Account, theirs: Account) -> tuple[Account, Account]:
        """As `quota.sides` says; it stays so while a cycle goes on."""
        key = (id(mine), id(theirs))
        if key not in self._known_sides:
            self._known_sides[key] = sides(mine, theirs)
        return self._known_sides[key]

    def _calm(self, taking: Taking, victim: Victim) -> bool:
        """Is it still within its minimum runtime? A team's own value binds its siblings; cousins see the value of the
        team that stands below the common ancestor (KAI's minimum runtime)."""
        run = self.state.runs[victim.job]
        least = taking.least.get(victim.team)
        if least is None:
            tree = self.state.trees[taking.want.pool]
            mine, theirs = tree.account(taking.want.team), tree.account(victim.team)
            side = theirs.team if mine is theirs else self._sides(mine, theirs)[1].team
            team = self.state.teams.get(side)
            least = taking.least[victim.team] = (team.min_runtime_s if team else 0) or self.policy.min_runtime_s
        least = max(run.ask.min_runtime_s, least)
        return least > 0 and (not run.running_at or self.now - run.running_at < least)

    def in_allowed_order(self, taking: Taking, victims: tuple[Victim, ...]) -> bool:
        """Is there an order in which each may be taken when its turn comes, and does the ask then fit all limits?
        The accounts are put back; small ones first, because each taken unit brings their team closer to its
        guarantee."""
        tree = self.state.trees[taking.want.pool]
        waiting = sorted(victims, key=lambda v: (v.units, v.job))
        taken: list[Victim] = []
        while waiting:
            nxt = next(
                (v for v in waiting if self._may_take(taking, v, trial=True) or self.takes_turn(taking, v)), None
            )
            if nxt is None:
                break
            waiting.remove(nxt)
            taken.append(nxt)
            tree.account(nxt.team).add(-nxt.units)
        for victim in taken:
            tree.account(victim.team).add(victim.units)
        return not waiting and self.within_limits(taking, victims)

    def within_limits(self, taking: Taking, victims: Collection[Victim]) -> bool:
        """Would the ask fit all limits if these were gone? The more of them, the more room."""
        tree = self.state.trees[taking.want.pool]
        for victim in victims:
            tree.account(victim.team).add(-victim.units)
        # What is stranded beside their instances no longer is; what the job that asks has on trial is its own room.
        gone = {taking.want.job, *(victim.job for victim in victims)}
        more = self.state.comes_back(gone, (part for victim in victims for part in victim.parts))
        fits = taking.asked <= tree.account(taking.want.team).room(more)
        for victim in victims:
            tree.account(victim.team).add(victim.units)
        return fits
