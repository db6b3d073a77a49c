"""Who must go so that a job can start: the smallest set of victims, and only if the job then has its place.

    1. candidates   preemptible runs past their minimum runtime, of teams from which this job may take at all
    2. per replica  the node on which room costs least; victims there are the best set by the stated order
    3. put back     every victim that turns out not to be needed
    4. claim        victims go, and the freed place is kept for the job

May A take from B? Judged at the lowest common ancestor of the two teams, before each victim is taken (KAI's reclaim,
with Berth's guarantees): *reclaim*: A's side stays within its guarantee with the ask, B's side and every team on the
way down to the victim are above theirs. *Balance*: the same for B, and A's share afterwards is not above B's share
afterwards (Kueue's LessThanOrEqualToFinalShare). *Within one team* a higher tier takes from a lower. *Critical* takes
anything while its own team stays within its guarantee. Nothing else ever falls.

The order among sets of victims: none of them within a guarantee before some, the highest tier among them as low as
possible, least work lost, fewest, ids.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

from scheduling.core.cluster import Ask, Claim, Part, Run
from scheduling.core.ledger import Host
from scheduling.core.lifecycle import JobState
from scheduling.core.minima import Minima
from scheduling.core.ordering import Kind
from scheduling.core.placement import NODE, Options, Want, bits, domain_of
from scheduling.core.quota import Account
from scheduling.core.state import Held

if TYPE_CHECKING:
    from scheduling.core.plan import Cycle

EVICTABLE = frozenset({JobState.PLACED, JobState.STARTING, JobState.RUNNING, JobState.RESUMING})
#: on one node all sets of so many candidates are compared; beyond that only the cheapest so many are
EXACT = 10


@dataclass(frozen=True, slots=True)
class Victim:
    """A run that might go. `guaranteed`: it lies within its team's guarantee. `lost`: unit-seconds thrown away with
    it."""

    job: int
    team: int
    units: int
    guaranteed: bool
    tier: int
    lost: int
    parts: tuple[Part, ...]


SetKey = tuple[bool, int, int, int, tuple[int, ...]]
#: the first three terms of a SetKey, or less
Bound = tuple[bool, int, int]
NOTHING: Bound = (False, -(1 << 30), 0)
HOPELESS: Bound = (True, 1 << 30, 0)


class Bounds:
    """Nodes in the order of their bounds, and how much of the log of changes they know of."""

    __slots__ = ("of", "order", "seen")

    def __init__(self) -> None:
        self.of: dict[int, Bound] = {}
        self.order: list[tuple[Bound, int]] = []
        self.seen = 0


class Taking:
    """One job that looks for victims, and what has been found out for it on the way."""

    __slots__ = ("allowed", "any_class", "cards", "domain", "kind", "least", "others", "own", "units", "want")

    def __init__(self, want: Want, kind: Kind, units: int) -> None:
        self.want, self.kind, self.units = want, kind, units
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
        tuple(sorted(v.job for v in chosen)),
    )


class Eviction:
    """Finds victims during one cycle. Its trials leave ledger and accounts as they were."""

    def __init__(self, cycle: "Cycle") -> None:
        self.cycle, self.state, self.now, self.policy = cycle, cycle.state, cycle.now, cycle.policy
        #: runs that are going already: victims of this plan, and of claims that others have
        self.gone = {victim for claim in self.state.claims.values() for victim in claim.victims}
        self._handed: list[tuple[Held, int]] = []
        self._by_team: dict[tuple[str, int], list[Victim]] | None = None
        self._kinds_of_victims: dict[tuple[str, int], list[Victim]] = {}
        self._on_host: dict[int, list[Victim]] = {}
        self._bounds: dict[tuple[object, ...], Bounds] = {}
        self._moved: list[int] = []
        self._failed: dict[tuple[object, ...], Minima] = {}
        self._takings: dict[tuple[str, int, int, int], tuple[int, Taking]] = {}
        self._known_sides: dict[tuple[int, int], tuple[Account, Account]] = {}

    # ---------------------------------------------------------------------------------------- the question
    def make_room(self, ask: Ask, kind: Kind, pool: str, units: int) -> Claim | None:
        """The claim of `ask` on a place that its victims leave, or None where nobody may or can be taken."""
        shape = ask.shape
        memo = (pool, kind.team, kind.tier, units, replace(shape, cpu_millis=0, memory_mib=0))
        failed = self._failed.setdefault(memo, Minima())
        if failed.covers((shape.cpu_millis, shape.memory_mib, ask.limit_s)):
            return None
        want = Want(ask.job, ask.team, shape, pool, self.now + ask.limit_s)
        taking = self._taking(want, kind, units)
        if not (taking.own or taking.others):
            failed.add((0, 0, 0))
            return None
        for groups in self.state.search.options(shape, pool):
            found = self._best_domain(taking, groups)
            if found is not None:
                return self._claim(want, pool, *found)
        failed.add((shape.cpu_millis, shape.memory_mib, ask.limit_s))
        return None

    # ---------------------------------------------------------------------------------------- 1. candidates
    def _taking(self, want: Want, kind: Kind, units: int) -> "Taking":
        """From whom may this job take anything at all? The answer holds for all that are like it while nobody gains or
        loses anything. It notes where to look: among the lower tiers of its own team, among borrowed work of others (of
        any class where the job is critical)."""
        key = (want.pool, kind.team, kind.tier, units)
        version, taking = self._takings.get(key, (-1, None))
        if taking is not None and version == self.cycle.version:
            taking.want = want
            return taking
        if self._by_team is None:
            self._by_team = self._runs_by_team()
            self._kinds_of_victims = {team: _samples(victims) for team, victims in self._by_team.items()}
        taking = Taking(want, kind, units)
        taking.any_class = self._is_critical(kind)
        for (pool, team), samples in self._kinds_of_victims.items():
            if pool != want.pool:
                continue
            if team == want.team:
                taking.own = self.policy.preempt and any(v.tier > kind.tier for v in samples)
            elif not taking.others:
                taking.others = taking.any_class or self._lends(taking, team, samples)
        self._takings[key] = (self.cycle.version, taking)
        return taking

    def _lends(self, taking: "Taking", team: int, samples: list[Victim]) -> bool:
        """May anything of another team be taken? Most teams are ruled out by what they hold, without a look at runs."""
        tree = self.state.trees[taking.want.pool]
        mine, theirs = tree.account(taking.want.team), tree.account(team)
        if theirs.used <= theirs.guaranteed or samples[0].guaranteed:
            return False
        my_side, their_side = self._sides(mine, theirs)
        if not _all_above(theirs, their_side):
            return False
        reclaims = self.policy.reclaim and my_side.guarantees(taking.units)
        return reclaims or self._allowed(taking, samples[0])

    def _allowed(self, taking: "Taking", victim: Victim) -> bool:
        """May it be taken as the first one? Asked once for all runs of a team that look alike."""
        key = (victim.team, victim.units, victim.guaranteed, victim.tier)
        known = taking.allowed.get(key)
        if known is None:
            tree = self.state.trees[taking.want.pool]
            mine, theirs = tree.account(taking.want.team), tree.account(victim.team)
            known = taking.allowed[key] = self._may_take(
                mine, theirs, victim, taking.kind, taking.want.pool, taking.units
            )
        return known

    def _candidates(self, taking: "Taking", host_id: int, before: set[int]) -> list[Victim]:
        """The runs on a node that this job may take, the cheapest first."""
        return [
            victim
            for victim in self._on_host.get(host_id, ())
            if victim.job not in self.gone
            and victim.job not in before
            and self._allowed(taking, victim)
            and not self._calm(taking, victim)
        ]

    def _runs_by_team(self) -> dict[tuple[str, int], list[Victim]]:
        """All runs that may be evicted at all. A team's runs fill its guarantee: what may not be evicted first, then by
        tier, start and id; what lies beyond it, or across the line, is borrowed."""
        teams: dict[tuple[str, int], list[tuple[tuple[bool, int, int, int], Run]]] = {}
        tier_of = self.state.queue.tier_of
        for run in self.state.runs.values():
            order = (run.ask.preemptible, tier_of(run.ask), run.held_at, run.job)
            teams.setdefault((run.pool, run.ask.team), []).append((order, run))
        victims: dict[tuple[str, int], list[Victim]] = {}
        for (pool, team), runs in sorted(teams.items(), key=lambda item: item[0]):
            guaranteed = self.state.account(pool, team).guaranteed
            filled = 0
            for order, run in sorted(runs, key=lambda pair: pair[0]):
                units = self.state.held[run.job].units
                filled += units
                if run.ask.preemptible and run.state in EVICTABLE:
                    lost = units * self._lost_s(run)
                    victim = Victim(run.job, team, units, filled <= guaranteed, order[1], lost, run.parts)
                    victims.setdefault((pool, team), []).append(victim)
                    for node in {part.node for part in run.parts}:
                        self._on_host.setdefault(node, []).append(victim)
        for on_host in self._on_host.values():
            on_host.sort(key=lambda v: (v.guaranteed, -v.tier, v.lost, v.job))
        return victims

    def _lost_s(self, run: Run) -> int:
        """Seconds of work that go with it: all since its start, or only the way to memory and back."""
        if self.can_suspend(run):
            return self.suspend_cost_s(run)
        return max(0, self.now - run.running_at) if run.running_at else 0

    def suspend_cost_s(self, run: Run) -> int:
        """Suspend and resume, from the job's GPU memory at the measured speeds; parts go in parallel."""
        saved = run.ask.saved_mib
        return 2 + saved // self.policy.suspend_mib_per_s + saved // self.policy.resume_mib_per_s

    def can_suspend(self, run: Run) -> bool:
        """One node, whole cards, room for the saved bytes in the node's memory, and the job and the policy allow it."""
        if not (self.policy.suspend and run.ask.suspendable and run.ask.saved_mib and len(run.parts) == 1):
            return False
        host = self.state.ledger.hosts.get(run.parts[0].node)
        whole = all(piece.whole for piece in run.parts[0].pieces)
        return run.state is JobState.RUNNING and whole and host is not None and host.memory >= run.ask.saved_mib

    def _calm(self, taking: "Taking", victim: Victim) -> bool:
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
    def _may_take(
        self, mine: Account, theirs: Account, victim: Victim, kind: Kind, pool: str, units: int
    ) -> bool:
        """One victim, as the accounts stand now."""
        if mine is theirs and self.policy.preempt and victim.tier > kind.tier:
            return True
        if self._is_critical(kind) and victim.tier > kind.tier and mine.guarantees(units):
            return True
        if mine is theirs or victim.guaranteed or theirs.used <= theirs.guaranteed:
            return False
        my_side, their_side = self._sides(mine, theirs)
        if not _all_above(theirs, their_side):
            return False
        if self.policy.reclaim and my_side.guarantees(units):
            return True
        if not self.policy.balance:
            return False
        tournament = self.cycle.tournament
        return tournament.share(my_side.team, pool, units) <= tournament.share(their_side.team, pool, -victim.units)

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

    def _in_allowed_order(self, taking: "Taking", victims: tuple[Victim, ...]) -> bool:
        """Is there an order in which each may be taken when its turn comes, and does the ask then fit all limits?
        The accounts are put back; small ones first, because each taken unit brings their team closer to its
        guarantee."""
        want, kind, units = taking.want, taking.kind, taking.units
        tree = self.state.trees[want.pool]
        mine = tree.account(want.team)
        waiting = sorted(victims, key=lambda v: (v.units, v.job))
        taken: list[Victim] = []
        while waiting:
            nxt = next(
                (v for v in waiting if self._may_take(mine, tree.account(v.team), v, kind, want.pool, units)), None
            )
            if nxt is None:
                break
            waiting.remove(nxt)
            taken.append(nxt)
            tree.account(nxt.team).add(-nxt.units)
        fits = not waiting and units <= mine.room()
        for victim in taken:
            tree.account(victim.team).add(victim.units)
        return fits

    # ---------------------------------------------------------------------------------------- 2. per replica
    def _best_domain(self, taking: "Taking", groups: Options) -> tuple[tuple[Part, ...], tuple[Victim, ...]] | None:
        """The cheapest set over all domains of the required level; without one, over the whole pool."""
        levels = (*self.policy.levels, NODE)
        taking.cards = {id(group): cards for group, cards in groups}
        taking.domain = None
        if taking.want.shape.required not in levels or taking.want.shape.replicas == 1:
            return self._gang(taking)
        depth = levels.index(taking.want.shape.required)
        hosts = self.state.ledger.hosts
        domains: dict[tuple[str, ...], set[int]] = {}
        for group, _ in groups:
            for bucket in group.buckets:
                for host_id in bucket:
                    key = domain_of(hosts[host_id], depth, len(levels))
                    if key is not None:
                        domains.setdefault(key, set()).add(host_id)
        best = None
        for key in sorted(domains):
            taking.domain = domains[key]
            found = self._gang(taking)
            if found is not None and (best is None or cost_of(found[1]) < cost_of(best[1])):
                best = found
        return best

    def _gang(self, taking: "Taking") -> tuple[tuple[Part, ...], tuple[Victim, ...]] | None:
        """Replica by replica the cheapest node; victims of one replica are gone for the next ones too."""
        ledger, want = self.state.ledger, taking.want
        mark = ledger.checkpoint()
        victims: tuple[Victim, ...] = ()
        parts: list[Part] = []
        while len(parts) < want.shape.replicas:
            chosen = self._best_host(taking, victims)
            if chosen is None or len(victims) + len(chosen[1]) > self.policy.max_victims:
                ledger.rollback(mark)
                return None
            host, more = chosen
            for victim in more:
                for part in victim.parts:
                    ledger.give(victim.job, part)
            victims += more
            found = self.state.search.one_here(want, host, taking.cards[id(host.group)])
            assert found is not None, "the set was chosen because this replica fits"
            ledger.take(want.job, found)
            parts.append(found)
        ledger.rollback(mark)
        if want.shape.replicas > 1:
            return self._put_back(taking, tuple(parts), victims)
        return tuple(parts), victims

    def _best_host(self, taking: "Taking", before: tuple[Victim, ...]) -> tuple[Host, tuple[Victim, ...]] | None:
        """The node on which one more replica costs least. Nodes come in the order of what they cost at least, so that
        the search ends as soon as the rest cannot be cheaper."""
        known = {victim.job for victim in before}
        touched = {part.node for victim in before for part in victim.parts}
        best: list[tuple[SetKey, int, int]] = []
        chosen: tuple[Host, tuple[Victim, ...]] | None = None
        for host_id in self._by_bound(taking, touched, best):
            host = self.state.ledger.hosts[host_id]
            cards = taking.cards.get(id(host.group))
            if cards is None or (taking.domain is not None and host_id not in taking.domain):
                continue
            found = self._best_set(taking, host, cards, known, before, best[0][0] if best else None)
            if found is not None:
                key = (cost_of(found), host.free.bit_count(), host_id)
                if not best or key < best[0]:
                    best[:], chosen = [key], (host, found)
        return chosen

    def _by_bound(self, taking: "Taking", touched: set[int], best: list[tuple[SetKey, int, int]]) -> Iterator[int]:
        """Nodes by what they cost at least, until the rest cannot beat the best that was found. Those on which victims
        of earlier replicas ran come first: their bounds no longer hold."""
        yield from sorted(touched)
        seen = set(touched)
        if taking.others or taking.want.shape.replicas > 1:
            for bound, host_id in self._bounds_of(taking, own=False):
                if bound == HOPELESS or (best and bound > best[0][0][:3]) or (bound[0] and not taking.any_class):
                    break
                if host_id not in seen:
                    seen.add(host_id)
                    yield host_id
        if taking.own:
            for bound, host_id in self._bounds_of(taking, own=True):
                if bound == HOPELESS or (best and bound > best[0][0][:3]):
                    break
                if host_id not in seen:
                    yield host_id

    def _bounds_of(self, taking: "Taking", *, own: bool) -> list[tuple[Bound, int]]:
        """Nodes by a lower bound of what room for such a replica costs there: whoever asks, or (`own`) nodes with
        work of lower tiers of the asking team. Only nodes that have changed since the last time are looked at
        again."""
        want, kind = taking.want, taking.kind
        key = (want.pool, want.shape.gpus, (kind.team, kind.tier) if own else None)
        known = self._bounds.get(key)
        if known is None:
            known = self._bounds[key] = Bounds()
            if own:
                victims = (self._by_team or {}).get((want.pool, kind.team), ())
                fresh = {part.node for v in victims if v.tier > kind.tier for part in v.parts}
            else:
                fresh = {h.id for h in self.state.ledger.accepting() if h.node.pool == want.pool}
        else:
            fresh = {node for node in self._moved[known.seen :] if node in known.of}
        known.seen = len(self._moved)
        bounds = {node: self._bound(node, want.shape.gpus, kind if own else None) for node in fresh}
        if len(fresh) > 50:
            known.of.update(bounds)
            known.order = sorted((bound, node) for node, bound in known.of.items())
        else:
            for node, bound in sorted(bounds.items()):
                if node in known.of:
                    del known.order[bisect_left(known.order, (known.of[node], node))]
                insort(known.order, (bound, node))
                known.of[node] = bound
        return known.order

    def _bound(self, host_id: int, gpus: int, owner: Kind | None) -> Bound:
        """Not more than the first three terms of `cost_of` for any set that frees so many whole cards here: the
        cheapest class of victims that together free enough, and the least work that any of them would lose. With an
        `owner`, only borrowed work and the lower tiers of its team count."""
        host = self.state.ledger.hosts.get(host_id)
        if host is None or not host.node.accepts or host.group.size < gpus:
            return HOPELESS
        missing = gpus - host.free.bit_count()
        if not gpus or missing <= 0:
            return NOTHING
        freed = 0
        cheapest = -1
        for victim in self._on_host.get(host_id, ()):
            if victim.job in self.gone:
                continue
            if owner is not None and victim.guaranteed and not (victim.team == owner.team and victim.tier > owner.tier):
                continue
            if cheapest < 0 or victim.lost < cheapest:
                cheapest = victim.lost
            freed += sum(len(part.pieces) for part in victim.parts if part.node == host_id)
            if freed >= missing:
                return (victim.guaranteed, -victim.tier, cheapest)
        return HOPELESS

    def _best_set(
        self, taking: "Taking", host: Host, cards: int, known: set[int], before: tuple[Victim, ...],
        to_beat: SetKey | None,
    ) -> tuple[Victim, ...] | None:  # fmt: skip
        """The best set on one node: where there are few candidates, all sets are compared."""
        want = taking.want
        ranked = self._candidates(taking, host.id, known)
        if not ranked and not known and want.shape.gpus > host.free.bit_count():
            return None
        if not self._room_with(want, host, cards, {v.job for v in ranked} | known):
            return None
        best: tuple[Victim, ...] | None = None
        for size in range(min(len(ranked), EXACT) + 1):
            for chosen in combinations(ranked[:EXACT], size):
                key = cost_of(chosen)
                if to_beat is not None and key >= to_beat:
                    continue
                if self._room_with(want, host, cards, {v.job for v in chosen} | known) and self._in_allowed_order(
                    taking, (*before, *chosen)
                ):
                    best, to_beat = chosen, key
        if best is None and len(ranked) > EXACT:
            best = self._greedy_set(taking, host, cards, ranked, known, before)
        return best

    def _greedy_set(
        self, taking: "Taking", host: Host, cards: int, ranked: list[Victim], known: set[int],
        before: tuple[Victim, ...],
    ) -> tuple[Victim, ...] | None:  # fmt: skip
        """Many small runs on one node: take the cheapest until it fits, then put back what was not needed."""
        chosen: list[Victim] = []
        for victim in ranked:
            chosen.append(victim)
            if self._room_with(taking.want, host, cards, {v.job for v in chosen} | known):
                break
        for victim in chosen[::-1]:
            if self._room_with(taking.want, host, cards, {v.job for v in chosen if v is not victim} | known):
                chosen.remove(victim)
        return tuple(chosen) if self._in_allowed_order(taking, (*before, *chosen)) else None

    def _room_with(self, want: Want, host: Host, suitable: int, without: set[int]) -> bool:
        """Would one replica fit on the node if these jobs were gone from it?"""
        shape = want.shape
        cpu, memory = host.cpu, host.memory
        blocked = 0
        if host.id in self.state.promises.hosts:
            blocked, cpu, memory = self.state.promises.limits(host, want.team, want.until)
        for job, part in host.parts:
            if job in without:
                cpu += part.cpu_millis
                memory += part.memory_mib
        free = host.free
        for place in bits(host.all & ~host.free):
            if all(job in without for job, _ in host.cards[place]):
                free |= 1 << place
        if not shape.wants_gpu:
            kept_cpu, kept_memory = self.state.search.kept(host, free)
            cpu, memory = cpu - kept_cpu, memory - kept_memory
        if cpu < shape.cpu_millis or memory < shape.memory_mib:
            return False
        if not shape.wants_gpu:
            return True
        cards = suitable & ~blocked
        if shape.gpus:
            return (free & cards).bit_count() >= shape.gpus
        return any(
            self.state.search.on_card(want, host, place, [h for h in host.cards[place] if h[0] not in without])
            for place in bits(cards)
        )

    # ---------------------------------------------------------------------------------------- 3. put back
    def _put_back(
        self, taking: "Taking", parts: tuple[Part, ...], victims: tuple[Victim, ...]
    ) -> tuple[tuple[Part, ...], tuple[Victim, ...]]:
        """A gang's victims were found replica by replica: whoever is not needed for the whole stays."""
        ledger = self.state.ledger
        needed = list(victims)
        for victim in reversed(victims):
            rest = [v for v in needed if v is not victim]
            mark = ledger.checkpoint()
            for other in rest:
                for part in other.parts:
                    ledger.give(other.job, part)
            found = self.state.search.place(taking.want)
            ledger.rollback(mark)
            if found is not None and self._in_allowed_order(taking, tuple(rest)):
                parts, needed = found, rest
        return parts, tuple(needed)

    # ---------------------------------------------------------------------------------------- 4. claim
    def _claim(self, want: Want, pool: str, parts: tuple[Part, ...], victims: tuple[Victim, ...]) -> Claim:
        """Book it in this cycle: the place is the job's, what passes over from its victims counts once."""
        state, policy = self.state, self.policy
        runs = [state.runs[victim.job] for victim in victims]
        suspend_s = max((self.suspend_cost_s(run) for run in runs if self.can_suspend(run)), default=0)
        expires = self.now + policy.grace_s + suspend_s + policy.claim_slack_s
        ids = tuple(sorted(victim.job for victim in victims))
        ask = state.queue.asks[want.job]
        units = sum(state.units_of(part, pool) for part in parts)
        state.charge(want.job, Held(pool, ask.team, ask.user, units, ask.preemptible))
        state.promises.ends[want.job] = self.now + policy.grace_s + ask.limit_s
        for part in parts:
            state.ledger.take(want.job, part)
        for held, passed in state.hand_over(units, pool, ids):
            self._handed.append((held, passed))
        self.cycle.version += 1
        self.gone.update(ids)
        self._moved += sorted({part.node for run in runs for part in run.parts} | {part.node for part in parts})
        for team in sorted({victim.team for victim in victims}):
            self.cycle.tournament.improved(team)
        return Claim(want.job, parts, pool, self.now, expires, ids)

    def undo(self) -> None:
        """Back to what is so far: the victims still have what they hold."""
        for held, passed in self._handed:
            self.state.account(held.pool, held.team).add(passed)
            held.handed -= passed


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
