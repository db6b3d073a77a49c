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

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from scheduling.core.cluster import Ask, Claim, Part, Run
from scheduling.core.ledger import Host
from scheduling.core.lifecycle import JobState
from scheduling.core.ordering import Kind
from scheduling.core.placement import Want, bits, part_of
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
        self.gone: set[int] = set()
        self._handed: list[tuple[Held, int]] = []
        self._by_team: dict[tuple[str, int], list[Victim]] | None = None
        self._nobody: set[tuple[object, ...]] = set()

    # ---------------------------------------------------------------------------------------- the question
    def make_room(self, ask: Ask, kind: Kind, pool: str, units: int) -> Claim | None:
        """The claim of `ask` on a place that its victims leave, or None where nobody may or can be taken."""
        memo = (pool, kind.team, units, kind.tier)
        if memo in self._nobody:
            return None
        by_host = self._candidates(ask, kind, pool, units)
        if not by_host:
            self._nobody.add(memo)
            return None
        want = Want(ask.job, ask.team, ask.shape, pool, self.now + ask.limit_s)
        for groups in self.state.search.options(ask.shape, pool):
            known = self.state.ledger.hosts
            hosts = [(known[i], cards) for group, cards in groups for bucket in group.buckets for i in bucket]
            hosts.sort(key=lambda pair: pair[0].id)
            found = self._best_domain(want, kind, units, hosts, by_host)
            if found is not None:
                return self._claim(want, pool, *found)
        return None

    # ---------------------------------------------------------------------------------------- 1. candidates
    def _candidates(self, ask: Ask, kind: Kind, pool: str, units: int) -> dict[int, list[Victim]]:
        """By node, the runs that this job may take at least as the first one."""
        if self._by_team is None:
            self._by_team = self._runs_by_team()
        tree = self.state.trees[pool]
        mine = tree.account(ask.team)
        by_host: dict[int, list[Victim]] = {}
        for (where, team), victims in self._by_team.items():
            if where != pool:
                continue
            theirs = tree.account(team)
            for victim in victims:
                if victim.job in self.gone or not self._may_take(mine, theirs, victim, kind, pool, units):
                    continue
                if self._calm(victim, mine, theirs):
                    continue
                for node in {part.node for part in victim.parts}:
                    by_host.setdefault(node, []).append(victim)
        return by_host

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
                    victims.setdefault((pool, team), []).append(
                        Victim(run.job, team, units, filled <= guaranteed, order[1], lost, run.parts)
                    )
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

    def _calm(self, victim: Victim, mine: Account, theirs: Account) -> bool:
        """Is it still within its minimum runtime? A team's own value binds its siblings; cousins see the value of the
        team that stands below the common ancestor (KAI's minimum runtime)."""
        run = self.state.runs[victim.job]
        side = theirs.team if mine is theirs else _sides(mine, theirs)[1].team
        team = self.state.teams.get(side)
        least = max(run.ask.min_runtime_s, (team.min_runtime_s if team else 0) or self.policy.min_runtime_s)
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
        if mine is theirs or victim.guaranteed:
            return False
        my_side, their_side = _sides(mine, theirs)
        if not _all_above(theirs, their_side):
            return False
        if self.policy.reclaim and my_side.guarantees(units):
            return True
        if not self.policy.balance:
            return False
        tournament = self.cycle.tournament
        return tournament.share(my_side.team, pool, units) <= tournament.share(their_side.team, pool, -victim.units)

    def _is_critical(self, kind: Kind) -> bool:
        tiers = self.policy.tiers
        return kind.tier < len(tiers) and tiers[kind.tier].critical

    def _in_allowed_order(self, want: Want, kind: Kind, units: int, victims: tuple[Victim, ...]) -> bool:
        """Is there an order in which each may be taken when its turn comes, and does the ask then fit all limits?
        The accounts are put back; small ones first, because each taken unit brings their team closer to its
        guarantee."""
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
    def _best_domain(
        self, want: Want, kind: Kind, units: int, hosts: list[tuple[Host, int]], by_host: dict[int, list[Victim]]
    ) -> tuple[tuple[Part, ...], tuple[Victim, ...]] | None:
        """The cheapest set over all domains of the required level; without one, over the whole pool."""
        levels = (*self.policy.levels, "node")
        depth = levels.index(want.shape.required) if want.shape.required in levels else -1
        domains: dict[tuple[str, ...], list[tuple[Host, int]]] = {}
        for host, cards in hosts:
            key = (str(host.id),) if depth == len(levels) - 1 else host.node.path[: depth + 1]
            if len(key) == depth + 1 or depth in (-1, len(levels) - 1):
                domains.setdefault(key if depth >= 0 else (), []).append((host, cards))
        best = None
        for key in sorted(domains):
            found = self._gang(want, kind, units, domains[key], by_host)
            if found is not None and (best is None or cost_of(found[1]) < cost_of(best[1])):
                best = found
        return best

    def _gang(
        self, want: Want, kind: Kind, units: int, hosts: list[tuple[Host, int]], by_host: dict[int, list[Victim]]
    ) -> tuple[tuple[Part, ...], tuple[Victim, ...]] | None:
        """Replica by replica the cheapest node; victims of one replica are gone for the next ones too."""
        ledger = self.state.ledger
        mark = ledger.checkpoint()
        victims: tuple[Victim, ...] = ()
        parts: list[Part] = []
        while len(parts) < want.shape.replicas:
            chosen = self._best_host(want, kind, units, hosts, by_host, victims)
            if chosen is None or len(victims) + len(chosen[2]) > self.policy.max_victims:
                ledger.rollback(mark)
                return None
            host, cards, more = chosen
            for victim in more:
                for part in victim.parts:
                    ledger.give(victim.job, part)
            victims += more
            found = self._part_on(want, host, cards)
            assert found is not None, "the set was chosen because this replica fits"
            ledger.take(want.job, found)
            parts.append(found)
        ledger.rollback(mark)
        if want.shape.replicas > 1:
            return self._put_back(want, tuple(parts), victims, hosts)
        return tuple(parts), victims

    def _best_host(
        self, want: Want, kind: Kind, units: int, hosts: list[tuple[Host, int]],
        by_host: dict[int, list[Victim]], before: tuple[Victim, ...],
    ) -> tuple[Host, int, tuple[Victim, ...]] | None:  # fmt: skip
        """The node on which one more replica costs least."""
        best: tuple[SetKey, int, Host, int, tuple[Victim, ...]] | None = None
        known = {victim.job for victim in before}
        for host, cards in hosts:
            candidates = [v for v in by_host.get(host.id, ()) if v.job not in known]
            if not self._room_with(want, host, cards, {v.job for v in candidates}):
                continue
            found = self._best_set(want, kind, units, host, cards, candidates, before, best and best[0])
            if found is not None:
                key = (cost_of(found), host.free.bit_count(), host, cards, found)
                if best is None or key[:2] < best[:2]:
                    best = key
        return None if best is None else (best[2], best[3], best[4])

    def _best_set(
        self, want: Want, kind: Kind, units: int, host: Host, cards: int, candidates: list[Victim],
        before: tuple[Victim, ...], to_beat: SetKey | None,
    ) -> tuple[Victim, ...] | None:  # fmt: skip
        """The best set on one node: all sets are compared where there are few candidates, smallest and cheapest
        first."""
        ranked = sorted(candidates, key=lambda v: cost_of((v,)))
        best: tuple[Victim, ...] | None = None
        for size in range(min(len(ranked), EXACT) + 1):
            for chosen in combinations(ranked[:EXACT], size):
                key = cost_of(chosen)
                if (to_beat is not None and key >= to_beat) or (best is not None and key >= cost_of(best)):
                    continue
                if self._room_with(want, host, cards, {v.job for v in chosen}) and self._in_allowed_order(
                    want, kind, units, (*before, *chosen)
                ):
                    best = chosen
        if best is None and len(ranked) > EXACT:
            best = self._greedy_set(want, kind, units, host, cards, ranked, before)
        return best

    def _greedy_set(
        self, want: Want, kind: Kind, units: int, host: Host, cards: int, ranked: list[Victim],
        before: tuple[Victim, ...],
    ) -> tuple[Victim, ...] | None:  # fmt: skip
        """Many small runs on one node: take the cheapest until it fits, then put back what was not needed."""
        chosen: list[Victim] = []
        for victim in ranked:
            chosen.append(victim)
            if self._room_with(want, host, cards, {v.job for v in chosen}):
                break
        for victim in reversed(chosen[:]):
            if self._room_with(want, host, cards, {v.job for v in chosen if v is not victim}):
                chosen.remove(victim)
        fits = self._room_with(want, host, cards, {v.job for v in chosen})
        return tuple(chosen) if fits and self._in_allowed_order(want, kind, units, (*before, *chosen)) else None

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
        if cpu < shape.cpu_millis or memory < shape.memory_mib:
            return False
        if not shape.wants_gpu:
            return True
        cards = suitable & ~blocked
        if shape.gpus:
            free = host.free & cards
            for place in bits(cards & ~host.free):
                if all(job in without for job, _ in host.cards[place]):
                    free |= 1 << place
            return free.bit_count() >= shape.gpus
        return any(
            self.state.search.on_card(want, host, place, [h for h in host.cards[place] if h[0] not in without])
            for place in bits(cards)
        )

    def _part_on(self, want: Want, host: Host, cards: int) -> Part | None:
        found = self.state.search.one_here(want, host, cards)
        if found is None and want.shape.gpus:
            free = host.free & cards
            found = part_of(host, want.shape, free) if free.bit_count() >= want.shape.gpus else None
        return found

    # ---------------------------------------------------------------------------------------- 3. put back
    def _put_back(
        self, want: Want, parts: tuple[Part, ...], victims: tuple[Victim, ...], hosts: list[tuple[Host, int]]
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
            found = self.state.search.place(want)
            ledger.rollback(mark)
            if found is not None:
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
        self.gone.update(ids)
        for team in sorted({victim.team for victim in victims}):
            self.cycle.tournament.improved(team)
        return Claim(want.job, parts, pool, self.now, expires, ids)

    def undo(self) -> None:
        """Back to what is so far: the victims still have what they hold."""
        for held, passed in self._handed:
            self.state.account(held.pool, held.team).add(passed)
            held.handed -= passed


def _sides(mine: Account, theirs: Account) -> tuple[Account, Account]:
    """The two children of the lowest common ancestor. Where one team stands above the other, it is its own side."""
    my_path, their_path = mine.path(), theirs.path()
    depth = 0
    while depth < min(len(my_path), len(their_path)) and my_path[depth] is their_path[depth]:
        depth += 1
    return my_path[min(depth, len(my_path) - 1)], their_path[min(depth, len(their_path) - 1)]


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
