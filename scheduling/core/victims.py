"""Whose work may fall for whom: the candidates of an eviction, and in which order they are preferred.

May A take from B? Judged at the lowest common ancestor of the two teams, before each victim is taken (KAI's reclaim,
with Berth's guarantees):

    reclaim    A's side stays within its guarantee with the ask; B's side and every team on the way down to the victim
    are
               above theirs
    balance    the same for B; A's share afterwards is not above B's share afterwards (Kueue:
    LessThanOrEqualToFinalShare) preempt    within one team a higher tier takes from a lower turns      within one
    team and a tier that rotates, from suspendable work that had its turn and comes after by size critical   takes
    anything of lower tiers while its own team stays within its guarantee

Nothing else ever falls. The order among sets of victims: none of them within a guarantee before some, the highest tier
among them as low as possible, least work lost, fewest, those that come last by the size rule, ids.

Long because all rights to take from somebody stand side by side.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduling.core.cluster import Part, Run
from scheduling.core.lifecycle import JobState
from scheduling.core.ordering import Kind, size_of
from scheduling.core.placement import Want
from scheduling.core.quota import Account

if TYPE_CHECKING:
    from scheduling.core.plan import Cycle

EVICTABLE = frozenset({JobState.PLACED, JobState.STARTING, JobState.RUNNING, JobState.RESUMING})


@dataclass(frozen=True, slots=True)
class Victim:
    """A run that might go. `guaranteed`: it lies within its team's guarantee. `lost`: unit-seconds thrown away with it.
    `turn`: it may be suspended and has had its turn; `size`: by the size rule of its tier."""

    job: int
    team: int
    units: int
    guaranteed: bool
    tier: int
    lost: int
    size: int
    turn: bool
    parts: tuple[Part, ...]


SetKey = tuple[bool, int, int, int, int, tuple[int, ...]]


class Taking:
    """One job that looks for victims, and what has been found out for it on the way."""

    __slots__ = ("allowed", "any_class", "cards", "domain", "kind", "least", "others", "own", "size", "units", "want")

    def __init__(self, want: Want, kind: Kind, units: int) -> None:
        self.want, self.kind, self.units, self.size = want, kind, units, 0
        #: may it take from lower tiers of its own team, from other teams, from others' guaranteed work?
        self.own = self.others = self.any_class = False
        #: group -> suitable cards; the nodes of the domain that is being looked at, or None for all
        self.cards: dict[int, int] = {}
        self.domain: set[int] | None = None
        self.allowed: dict[tuple[int, int, bool, int], bool] = {}
        self.least: dict[int, int] = {}


def cost_of(victims: Iterable[Victim]) -> SetKey:
    """The stated order, as a key: the smaller set of victims is the better one."""
    chosen = tuple(victims)
    return (
        any(v.guaranteed for v in chosen),
        -min((v.tier for v in chosen), default=1 << 30),
        sum(v.lost for v in chosen),
        len(chosen),
        -min((v.size for v in chosen), default=0),
        tuple(sorted(v.job for v in chosen)),
    )


class Candidates:
    """The runs of one cycle that may be evicted at all, and the questions about them."""

    def __init__(self, cycle: "Cycle") -> None:
        self.cycle, self.state, self.now, self.policy = cycle, cycle.state, cycle.now, cycle.policy
        #: runs that are going already: victims of this plan, and of claims that others have
        self.gone = {victim for claim in self.state.claims.values() for victim in claim.victims}
        self.on_host: dict[int, list[Victim]] = {}
        self._takings: dict[tuple[str, int, int, int], tuple[int, Taking]] = {}
        self._known_sides: dict[tuple[int, int], tuple[Account, Account]] = {}
        self._counted = False
        self.by_team: dict[tuple[str, int], list[Victim]] = {}
        self._samples: dict[tuple[str, int], list[Victim]] = {}

    # ---------------------------------------------------------------------------------------- from whom
    def taking(self, want: Want, kind: Kind, units: int, size: int) -> Taking:
        """From whom may this job take anything at all? The answer holds for all that are like it while nobody gains or
        loses anything. It notes where to look: among lower tiers and turns of its own team, among borrowed work of
        others (of any class where the job is critical)."""
        key = (want.pool, kind.team, kind.tier, units)
        version, taking = self._takings.get(key, (-1, None))
        if taking is None or version != self.cycle.version:
            taking = Taking(want, kind, units)
            self._look_around(taking)
            self._takings[key] = (self.cycle.version, taking)
        taking.want, taking.size = want, size
        return taking

    def _look_around(self, taking: Taking) -> None:
        if not self._counted:
            self._count_runs()
        kind = taking.kind
        taking.any_class = self._is_critical(kind)
        for (pool, team), samples in self._samples.items():
            if pool != taking.want.pool:
                continue
            if team == kind.team:
                higher = self.policy.preempt and any(v.tier > kind.tier for v in samples)
                taking.own = higher or (self.rotates(kind) and any(v.tier == kind.tier for v in samples))
            elif not taking.others:
                taking.others = taking.any_class or self._lends(taking, team, samples)

    def rotates(self, kind: Kind) -> bool:
        """May jobs of this kind take turns with their likes? (Those of one team only: turns never cross teams.)"""
        tiers = self.policy.tiers
        return kind.tier < len(tiers) and tiers[kind.tier].rotate

    def _lends(self, taking: Taking, team: int, samples: list[Victim]) -> bool:
        """May anything of another team be taken? Most teams are ruled out by what they hold, without a look at runs."""
        tree = self.state.trees[taking.want.pool]
        mine, theirs = tree.account(taking.want.team), tree.account(team)
        if theirs.used <= theirs.guaranteed or samples[0].guaranteed:
            return False
        my_side, their_side = self._sides(mine, theirs)
        if not _all_above(theirs, their_side):
            return False
        reclaims = self.policy.reclaim and my_side.guarantees(taking.units)
        return reclaims or self.allowed(taking, samples[0])

    def allowed(self, taking: Taking, victim: Victim) -> bool:
        """May it be taken as the first one? Asked once for all runs of a team that look alike."""
        key = (victim.team, victim.units, victim.guaranteed, victim.tier)
        known = None if victim.team == taking.want.team else taking.allowed.get(key)
        if known is None:
            known = taking.allowed[key] = self._may_take(taking, victim)
        return known

    def on(self, host_id: int, taking: Taking, before: set[int]) -> list[Victim]:
        """The runs on a node that this job may take, the cheapest first."""
        return [
            victim
            for victim in self.on_host.get(host_id, ())
            if victim.job not in self.gone
            and victim.job not in before
            and self.allowed(taking, victim)
            and not self._calm(taking, victim)
        ]

    # ---------------------------------------------------------------------------------------- the runs
    def _count_runs(self) -> None:
        """All runs that may be evicted at all. A team's runs fill its guarantee: what may not be evicted first, then by
        tier, start and id; what lies beyond it, or across the line, is borrowed."""
        teams: dict[tuple[str, int], list[tuple[tuple[bool, int, int, int], Run]]] = {}
        tier_of = self.state.queue.tier_of
        for run in self.state.runs.values():
            order = (run.ask.preemptible, tier_of(run.ask), run.held_at, run.job)
            teams.setdefault((run.pool, run.ask.team), []).append((order, run))
        self._counted = True
        for (pool, team), runs in sorted(teams.items(), key=lambda item: item[0]):
            guaranteed = self.state.account(pool, team).guaranteed
            filled = 0
            for order, run in sorted(runs, key=lambda pair: pair[0]):
                units = self.state.held[run.job].units
                filled += units
                if run.ask.preemptible and run.state in EVICTABLE:
                    victim = self._victim(run, units, order[1], guaranteed=filled <= guaranteed)
                    self.by_team.setdefault((pool, team), []).append(victim)
                    for node in {part.node for part in run.parts}:
                        self.on_host.setdefault(node, []).append(victim)
        for on_host in self.on_host.values():
            on_host.sort(key=lambda v: (v.guaranteed, -v.tier, v.lost, v.job))
        self._samples = {team: _samples(victims) for team, victims in self.by_team.items()}

    def _victim(self, run: Run, units: int, tier: int, *, guaranteed: bool) -> Victim:
        ask, ran = run.ask, max(0, self.now - run.running_at) if run.running_at else 0
        size = size_of(self.policy, tier, left_s=ask.limit_s - ran, attained=ask.attained + units * ran)
        lost_s, turn = ran, False
        if self.can_suspend(run):
            lost_s = self.suspend_cost_s(run)
            turn = ran >= max(self.policy.turn_s, self.policy.turn_factor * lost_s)
        return Victim(run.job, ask.team, units, guaranteed, tier, units * lost_s, size, turn, run.parts)

    def suspend_cost_s(self, run: Run) -> int:
        """Suspend and resume, from the job's GPU memory at the measured speeds; parts go in parallel."""
        if self.policy.keeps_work:
            return 0
        saved = run.ask.saved_mib
        return 2 + saved // self.policy.suspend_mib_per_s + saved // self.policy.resume_mib_per_s

    def can_suspend(self, run: Run) -> bool:
        """One node, whole cards, room for the saved bytes in the node's memory, and the job and the policy allow it."""
        if not (self.policy.suspend and run.ask.suspendable and run.state is JobState.RUNNING):
            return False
        if self.policy.keeps_work:
            return True
        host = self.state.ledger.hosts.get(run.parts[0].node)
        whole = all(piece.whole for piece in run.parts[0].pieces)
        fits = host is not None and host.memory >= run.ask.saved_mib > 0
        return len(run.parts) == 1 and bool(run.parts[0].pieces) and whole and fits

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

    # ---------------------------------------------------------------------------------------- may it?
    def _may_take(self, taking: Taking, victim: Victim) -> bool:
        """One victim, as the accounts stand now."""
        kind, pool, units = taking.kind, taking.want.pool, taking.units
        tree = self.state.trees[pool]
        mine, theirs = tree.account(taking.want.team), tree.account(victim.team)
        if mine is theirs:
            if victim.tier > kind.tier:
                return self.policy.preempt
            return victim.turn and victim.tier == kind.tier and victim.size > taking.size and self.rotates(kind)
        if self._is_critical(kind) and victim.tier > kind.tier and mine.guarantees(units):
            return True
        if victim.guaranteed or theirs.used <= theirs.guaranteed:
            return False
        my_side, their_side = self._sides(mine, theirs)
        if not _all_above(theirs, their_side):
            return False
        if self.policy.reclaim and my_side.guarantees(units):
            return True
        if not self.policy.balance:
            return False
        # Both with the past and without it: what a team has had may stop it from taking, but never entitles two teams
        # to take the same cards from each other in turn.
        share = self.cycle.tournament.share
        return all(
            share(my_side.team, pool, units, history=past) <= share(their_side.team, pool, -victim.units, history=past)
            for past in (False, True)
        )

    def _sides(self, mine: Account, theirs: Account) -> tuple[Account, Account]:
        """The two children of the lowest common ancestor. Where one team stands above the other, it is its own side."""
        key = (id(mine), id(theirs))
        known = self._known_sides.get(key)
        if known is None:
            my_path, their_path = mine.path(), theirs.path()
            depth = 0
            while depth < min(len(my_path), len(their_path)) and my_path[depth] is their_path[depth]:
                depth += 1
            known = my_path[min(depth, len(my_path) - 1)], their_path[min(depth, len(their_path) - 1)]
            self._known_sides[key] = known
        return known

    def _is_critical(self, kind: Kind) -> bool:
        tiers = self.policy.tiers
        return kind.tier < len(tiers) and tiers[kind.tier].critical

    def in_allowed_order(self, taking: Taking, victims: tuple[Victim, ...]) -> bool:
        """Is there an order in which each may be taken when its turn comes, and does the ask then fit all limits?
        The accounts are put back; small ones first, because each taken unit brings their team closer to its
        guarantee."""
        want = taking.want
        tree = self.state.trees[want.pool]
        mine = tree.account(want.team)
        waiting = sorted(victims, key=lambda v: (v.units, v.job))
        taken: list[Victim] = []
        while waiting:
            nxt = next((v for v in waiting if self._may_take(taking, v)), None)
            if nxt is None:
                break
            waiting.remove(nxt)
            taken.append(nxt)
            tree.account(nxt.team).add(-nxt.units)
        fits = not waiting and taking.units <= mine.room()
        for victim in taken:
            tree.account(victim.team).add(victim.units)
        return fits


def _samples(victims: list[Victim]) -> list[Victim]:
    """One run of each sort: those that are alike in units, guarantee and tier may be taken by the same jobs. Borrowed
    and small ones first, because most often they may be taken."""
    return sorted({(v.guaranteed, v.units, v.tier): v for v in victims}.values(), key=lambda v: (v.guaranteed, v.units))


def _all_above(account: Account, side: Account) -> bool:
    """Is every team from the victim's up to its side of the ancestor above its guarantee?"""
    node: Account | None = account
    while node is not None:
        if node.used <= node.guaranteed:
            return False
        if node is side:
            return True
        node = node.parent
    return True
