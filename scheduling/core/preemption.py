"""Who must go so that a job can start: the smallest set of victims, and only if the job then has its place.

    1. candidates   preemptible runs past their minimum runtime, of teams from which this job may take at all
    2. per replica  the node on which room costs least; victims there are the best set by the stated order
    3. put back     every victim that turns out not to be needed
    4. claim        victims go, and the freed place is kept for the job

Whose work may fall for whom, and which victims are the better ones, is said in `victims`.

Long because the search, its bounds and the putting back must agree on what a set of victims costs.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from scheduling.core.cluster import Ask, Claim, Part
from scheduling.core.ledger import Host, Ledger
from scheduling.core.minima import Minima
from scheduling.core.ordering import Kind, size_of
from scheduling.core.placement import NODE, Options, Want, bits, domain_of
from scheduling.core.state import Held
from scheduling.core.victims import Candidates, SetKey, Taking, Victim, cost_of

if TYPE_CHECKING:
    from scheduling.core.plan import Cycle

#: on one node all sets of so many candidates are compared; beyond that only the cheapest so many are
EXACT = 10
#: less than any ask: what covers it covers all
ANYTHING = (0, 0, 0, 0)
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


class Eviction:
    """Finds victims during one cycle. Its trials leave ledger and accounts as they were."""

    def __init__(self, cycle: "Cycle") -> None:
        self.cycle, self.state, self.now, self.policy = cycle, cycle.state, cycle.now, cycle.policy
        self.candidates = Candidates(cycle)
        self._handed: list[tuple[Held, int]] = []
        self._bounds: dict[tuple[object, ...], Bounds] = {}
        self._moved: list[int] = []
        self._probed: set[int] = set()
        self._failed: dict[tuple[object, ...], Minima] = {}

    # ---------------------------------------------------------------------------------------- the question
    def make_room(self, ask: Ask, kind: Kind, pool: str, units: int) -> Claim | None:
        """The claim of `ask` on a place that its victims leave, or None where nobody may or can be taken."""
        shape = ask.shape
        failed = self._failed.setdefault((pool, units, id(kind.family)), Minima())
        size = size_of(self.policy, kind.tier, left_s=ask.limit_s, attained=ask.attained)
        point = (shape.cpu_millis, shape.memory_mib, ask.limit_s, size)
        if failed.covers(point):
            return None
        want = Want(ask.job, ask.team, shape, pool, self.now + ask.limit_s)
        taking = self.candidates.taking(want, kind, units, size)
        if not (taking.own or taking.others):
            failed.add(ANYTHING)
            return None
        for groups in self.state.search.options(shape, pool):
            found = self._best_domain(taking, groups)
            if found is not None:
                return self._claim(want, pool, *found)
        failed.add(ANYTHING if self._hopeless(want, kind, units) else point)
        return None

    def _hopeless(self, want: Want, kind: Kind, units: int) -> bool:
        """Would even a moment on the same cards, without CPU and memory, find no victims? Then the whole family need
        not look any more. Asked once per family."""
        if id(kind.family) in self._probed:
            return False
        self._probed.add(id(kind.family))
        bare = replace(want, shape=replace(want.shape, cpu_millis=0, memory_mib=0), until=self.now + 1)
        taking = self.candidates.taking(bare, kind, units, 0)
        options = self.state.search.options(bare.shape, bare.pool)
        return all(self._best_domain(taking, groups) is None for groups in options)

    def nobody(self, kind: Kind) -> bool:
        """Is it known that nobody may be taken for this kind, however little CPU and memory it asked for?"""
        known = (self._failed.get((pool, units, id(kind.family))) for pool, units in kind.costs)
        return all(failed is not None and failed.covers(ANYTHING) for failed in known)

    # ---------------------------------------------------------------------------------------- 2. per replica
    def _best_domain(self, taking: Taking, groups: Options) -> tuple[tuple[Part, ...], tuple[Victim, ...]] | None:
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

    def _gang(self, taking: Taking) -> tuple[tuple[Part, ...], tuple[Victim, ...]] | None:
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

    def _best_host(self, taking: Taking, before: tuple[Victim, ...]) -> tuple[Host, tuple[Victim, ...]] | None:
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

    def _by_bound(self, taking: Taking, touched: set[int], best: list[tuple[SetKey, int, int]]) -> Iterator[int]:
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

    def _bounds_of(self, taking: Taking, *, own: bool) -> list[tuple[Bound, int]]:
        """Nodes by a lower bound of what room for such a replica costs there: whoever asks, or (`own`) nodes with
        work of lower tiers of the asking team. Only nodes that have changed since the last time are looked at
        again."""
        want, kind = taking.want, taking.kind
        key = (want.pool, want.shape.gpus, (kind.team, kind.tier) if own else None)
        known = self._bounds.get(key)
        if known is None:
            known = self._bounds[key] = Bounds()
            if own:
                victims = self.candidates.by_team.get((want.pool, kind.team), ())
                fresh = {part.node for v in victims if v.tier >= kind.tier for part in v.parts}
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
        for victim in self.candidates.on_host.get(host_id, ()):
            if victim.job in self.candidates.gone:
                continue
            own = owner is None or (victim.team == owner.team and victim.tier >= owner.tier)
            if victim.guaranteed and not own:
                continue
            if cheapest < 0 or victim.lost < cheapest:
                cheapest = victim.lost
            freed += sum(len(part.pieces) for part in victim.parts if part.node == host_id)
            if freed >= missing:
                return (victim.guaranteed, -victim.tier, cheapest)
        return HOPELESS

    def _best_set(
        self, taking: Taking, host: Host, cards: int, known: set[int], before: tuple[Victim, ...],
        to_beat: SetKey | None,
    ) -> tuple[Victim, ...] | None:  # fmt: skip
        """The best set on one node: where there are few candidates, all sets are compared."""
        want = taking.want
        ranked = self.candidates.on(host.id, taking, known)
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
                fits = self._room_with(want, host, cards, {v.job for v in chosen} | known)
                if fits and self.candidates.in_allowed_order(taking, (*before, *chosen)):
                    best, to_beat = chosen, key
        if best is None and len(ranked) > EXACT:
            best = self._greedy_set(taking, host, cards, ranked, known, before)
        return best

    def _greedy_set(
        self, taking: Taking, host: Host, cards: int, ranked: list[Victim], known: set[int],
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
        return tuple(chosen) if self.candidates.in_allowed_order(taking, (*before, *chosen)) else None

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
        self, taking: Taking, parts: tuple[Part, ...], victims: tuple[Victim, ...]
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
            if found is not None and self.candidates.in_allowed_order(taking, tuple(rest)):
                parts, needed = found, rest
        return parts, tuple(needed)

    # ---------------------------------------------------------------------------------------- 4. claim
    def _claim(self, want: Want, pool: str, parts: tuple[Part, ...], victims: tuple[Victim, ...]) -> Claim:
        """Book it in this cycle: the place is the job's, what passes over from its victims counts once."""
        state, policy = self.state, self.policy
        runs = [state.runs[victim.job] for victim in victims]
        saving = [run for run in runs if self.candidates.can_suspend(run)]
        suspend_s = max((self.candidates.suspend_cost_s(run) for run in saving), default=0)
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
        self.candidates.gone.update(ids)
        self._moved += sorted({part.node for run in runs for part in run.parts} | {part.node for part in parts})
        for team in sorted({victim.team for victim in victims}):
            self.cycle.tournament.improved(team)
        return Claim(want.job, parts, pool, self.now, expires, ids)

    def return_to(self, ask: Ask, kind: Kind, pool: str, units: int) -> Claim | None:
        """A suspended job comes back to its own cards: whoever is on them must be one that it may take."""
        want = Want(ask.job, ask.team, ask.shape, pool, self.now + ask.limit_s)
        size = size_of(self.policy, kind.tier, left_s=ask.limit_s, attained=ask.attained)
        taking = self.candidates.taking(want, kind, units, size)
        ledger = self.state.ledger
        sitting = {job for part in ask.pinned for piece in part.pieces for job in _on(ledger, piece.gpu)}
        hosts = {part.node for part in ask.pinned}
        found = {v.job: v for host_id in hosts for v in self.candidates.on(host_id, taking, set()) if v.job in sitting}
        victims = tuple(found[job] for job in sorted(found))
        if not victims or set(found) != sitting or not self.candidates.in_allowed_order(taking, victims):
            return None
        mark = ledger.checkpoint()
        for victim in victims:
            for part in victim.parts:
                ledger.give(victim.job, part)
        free = self.state.search.is_free(ask.pinned, ask.team, want.until)
        ledger.rollback(mark)
        return self._claim(want, pool, ask.pinned, victims) if free else None

    def undo(self) -> None:
        """Back to what is so far: the victims still have what they hold."""
        for held, passed in self._handed:
            self.state.account(held.pool, held.team).add(passed)
            held.handed -= passed


def _on(ledger: Ledger, gpu: int) -> list[int]:
    """Who holds something of this card."""
    host, place = ledger.where[gpu]
    return [job for job, _ in host.cards[place]]
