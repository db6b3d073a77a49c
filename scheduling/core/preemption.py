"""Who must go so that a job can start: the smallest set of victims, and only if the job then has its place.

    1. candidates   preemptible runs past their minimum runtime, of teams from which this job may take at all
    2. per replica  the node on which room costs least; victims there are the best set by the stated order. Where it is
                    a limit alone that keeps one replica from a free place, that may be any node
    3. put back     every victim that turns out not to be needed
    4. claim        victims go, and the freed place is kept for the job

Whose work may fall for whom, and which victims are the better ones, is said in `victims`.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from scheduling.core.books import Held, saved_parts
from scheduling.core.bounds import NOTHING
from scheduling.core.candidates import Candidates, Victim
from scheduling.core.cluster import Ask, Claim, Part
from scheduling.core.credit import credits_for
from scheduling.core.ledger import Host
from scheduling.core.minima import Minima
from scheduling.core.places.filters import Options, Want, by_island
from scheduling.core.places.gangs import domains_of
from scheduling.core.queue import Kind, size_of
from scheduling.core.smallest import SmallestSet
from scheduling.core.taking import SetKey, Taking, cost_of, followers_of
from scheduling.core.victims import Rights

if TYPE_CHECKING:
    from scheduling.core.plan import Cycle

#: less than any ask: what covers it covers all
ANYTHING = (0, 0, 0, 0)


class Eviction:
    """Finds victims during one cycle. Its trials leave ledger and accounts as they were."""

    def __init__(self, cycle: "Cycle") -> None:
        self.cycle, self.state, self.now, self.policy = cycle, cycle.state, cycle.now, cycle.policy
        self.candidates = Candidates(cycle)
        self.rights = Rights(cycle, self.candidates)
        self.bounds = self.state.bounds
        self.bounds.touch(self.state.filling.draw(lambda pool, team: self.state.account(pool, team).guaranteed))
        self.bounds.begin(self.now, self.candidates)
        self.smallest = SmallestSet(cycle, self.rights)
        self._handed: list[tuple[Held, int]] = []
        self._fell: set[int] = set()
        self._probed: set[int] = set()
        self._failed: dict[tuple[object, ...], Minima] = {}
        #: did the last search fail because its job was evicted itself? Others that are like it may still find somebody
        self.barred = False
        #: jobs that this cycle suspends, the other victims are stopped; and those of them that only had their turn
        self.suspends: set[int] = set()
        self.turns: set[int] = set()

    # ---------------------------------------------------------------------------------------- the question
    def make_room(self, ask: Ask, kind: Kind, pool: str, units: int, *, limited: bool) -> Claim | None:
        """The claim of `ask` on a place that its victims leave, or None where nobody may or can be taken. `limited`: it
        is beyond a limit, so nobody has looked yet whether a place is free."""
        shape = ask.shape
        failed = self._failed.setdefault((pool, units, id(kind.family)), Minima())
        size = size_of(self.policy, kind.tier, left_s=ask.limit_s, attained=ask.attained)
        # While nothing is promised to anybody, it does not matter how long a job lasts.
        point = (shape.cpu_millis, shape.memory_mib, ask.limit_s if self.state.promises.hosts else 0, size)
        self.barred = False
        if failed.covers(point) and not self.state.promises.parked:
            return None
        want = Want(ask.job, ask.team, shape, pool, self.now + ask.limit_s)
        taking = self._taking(ask, want, kind, units, size)
        if not (taking.own or taking.others):
            failed.add((0, 0, 0, size if taking.turns else 0))
            return None
        taking.free = self.state.search.would_go(want) if limited else None
        for groups in self.state.search.options(shape, pool):
            found = self._best_domain(taking, groups)
            if found is not None:
                return self._claim(taking, pool, *found)
        self.barred = taking.barred
        if not self.barred:
            failed.add(ANYTHING if self._hopeless(want, kind, units, size, limited=limited) else point)
        return None

    def _taking(self, ask: Ask, want: Want, kind: Kind, units: int, size: int) -> Taking:
        """Whoever would sit on the cards for longer than anybody may be suspended gets no suspended victims: they would
        lose their work all the same, hours later."""
        taking = self.rights.taking(want, kind, units, size)
        last = self.now + self.policy.max_parked_s
        leaves = self.policy.keeps_work or want.until <= last or self.state.evictable_from(ask, self.now) <= last
        taking.firm = not leaves
        taking.followers, taking.barred, taking.free = followers_of(ask, self.policy), False, None
        return taking

    def _hopeless(self, want: Want, kind: Kind, units: int, size: int, *, limited: bool) -> bool:
        """Would even a moment on the same cards, without CPU and memory, find no victims? Then the whole family need
        not look any more. Asked once per family; not for a job that has been served, where turns are taken: one that
        has not may still get a turn."""
        if id(kind.family) in self._probed:
            return False
        self._probed.add(id(kind.family))
        if size and self.rights.rotates(kind):
            return False
        bare = replace(want, shape=replace(want.shape, cpu_millis=0, memory_mib=0), until=self.now + 1)
        taking = self.rights.taking(bare, kind, units, 0)
        taking.followers = range(0)
        taking.free = self.state.search.would_go(bare) if limited else None
        options = self.state.search.options(bare.shape, bare.pool)
        return all(self._best_domain(taking, groups) is None for groups in options)

    def nobody(self, kind: Kind) -> bool:
        """Is it known that nobody may be taken for this kind, however little CPU and memory it asked for?"""
        known = (self._failed.get((pool, units, id(kind.family))) for pool, units in kind.costs)
        return all(failed is not None and failed.covers(ANYTHING) for failed in known)

    # ---------------------------------------------------------------------------------------- 2. per replica
    def _best_domain(self, taking: Taking, groups: Options) -> tuple[tuple[Part, ...], tuple[Victim, ...]] | None:
        """The cheapest set over all domains of the required level; without one, over the whole pool."""
        taking.cards = {id(group): cards for group, cards in groups}
        taking.domain = None
        if not taking.want.shape.required or taking.want.shape.replicas == 1:
            return self._gang(taking)
        best = None
        for inside in by_island(groups, taking.want.shape):
            taking.cards = {id(group): cards for group, cards in inside}
            for domain in domains_of(self.policy.levels, taking.want.shape, inside, self.state.ledger.hosts):
                taking.domain = domain
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
            taking.asked = taking.units * (len(parts) + 1) // want.shape.replicas
            chosen = self._best_host(taking, victims, trial=bool(parts))
            if chosen is None or len(victims) + len(chosen[1]) > self.policy.max_victims:
                ledger.rollback(mark)
                return None
            host, more = chosen
            for victim in more:
                self._gives_way(victim)
            victims += more
            found = taking.free
            if found is None or found.node == host.id:
                found = self.state.search.one_here(want, host, taking.cards[id(host.group)])
            assert found is not None, "the set was chosen because this replica fits"
            ledger.take(want.job, found)
            parts.append(found)
        ledger.rollback(mark)
        if want.shape.replicas > 1:
            return self._put_back(taking, tuple(parts), victims)
        return tuple(parts), victims

    def _best_host(
        self, taking: Taking, before: tuple[Victim, ...], *, trial: bool
    ) -> tuple[Host, tuple[Victim, ...]] | None:
        """The node on which one more replica costs least. Nodes come in the order of what they cost at least, so that
        the search ends as soon as the rest cannot be cheaper."""
        touched = {part.node for victim in before for part in victim.parts}
        best: list[tuple[SetKey, int, int]] = []
        chosen: tuple[Host, tuple[Victim, ...]] | None = None
        for host_id in self._by_bound(taking, touched, best, trial=trial):
            host = self.state.ledger.hosts[host_id]
            cards = taking.cards.get(id(host.group), 0 if taking.free else None)
            if cards is None or (taking.domain is not None and host_id not in taking.domain):
                continue
            found = self.smallest.on(taking, host, cards, before, best[0][0] if best else None)
            if found is not None:
                key = (cost_of(found), host.free.bit_count(), host_id)
                if not best or key < best[0]:
                    best[:], chosen = [key], (host, found)
        return chosen

    def _by_bound(
        self, taking: Taking, touched: set[int], best: list[tuple[SetKey, int, int]], *, trial: bool
    ) -> Iterator[int]:
        """Nodes by what they cost at least, until the rest cannot beat the best that was found. Those on which victims
        of earlier replicas ran come first: their bounds no longer hold."""
        yield from sorted(touched)
        seen = set(touched)
        want, among = taking.want, taking.lenders
        gpus = want.shape.gpus if taking.free is None else 0
        if taking.others or want.shape.replicas > 1:
            for bound, host_id in self.bounds.ordered(want.pool, gpus, None, trial=trial, among=among):
                if (best and bound > best[0][0][:3]) or (bound[0] and not taking.any_class):
                    break
                if bound != NOTHING and not taking.others:
                    break  # the rest of a gang may lie where nobody need go
                if host_id not in seen and (bound == NOTHING or self.bounds.holds_any(host_id, among)):
                    seen.add(host_id)
                    yield host_id
        if taking.own:
            lowest = taking.kind.tier + (not self.rights.rotates(taking.kind))
            owner = (taking.kind.team, lowest, not (taking.others or taking.beside))
            for bound, host_id in self.bounds.ordered(want.pool, gpus, owner, trial=trial):
                if best and bound > best[0][0][:3]:
                    break
                if host_id not in seen:
                    yield host_id

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
                self._gives_way(other)
            found = self.state.search.place(taking.want)
            ledger.rollback(mark)
            if found is not None and self.rights.in_allowed_order(taking, tuple(rest)):
                parts, needed = found, rest
        return parts, tuple(needed)

    # ---------------------------------------------------------------------------------------- 4. claim
    def _claim(self, taking: Taking, pool: str, parts: tuple[Part, ...], victims: tuple[Victim, ...]) -> Claim:
        """Book it in this cycle: the place is the job's, what passes over from its victims counts once."""
        state, policy, want = self.state, self.policy, taking.want
        runs = [state.runs[victim.job] for victim in victims]
        saving = self.candidates.suspended(victims)
        self.suspends |= {victim.job for victim in saving}
        self.turns |= {victim.job for victim in saving if self.rights.takes_turn(taking, victim)}
        suspend_s = max((self.candidates.suspend_cost_s(state.runs[victim.job]) for victim in saving), default=0)
        self.cycle.credits += credits_for(state, taking, victims)
        expires = self.now + policy.grace_s + suspend_s + policy.claim_slack_s
        ids = tuple(sorted(victim.job for victim in victims))
        ask = state.queue.asks[want.job]
        units = sum(state.units_of(part, pool) for part in parts)
        state.charge(want.job, Held(pool, ask.team, ask.user, units, ask.preemptible))
        state.promises.ends[want.job] = self.now + policy.grace_s + ask.limit_s
        for part in parts:
            state.ledger.take(want.job, part)
        for victim in saving:
            self._saves_its_memory(victim)
        for held, passed in state.hand_over(units, pool, ids):
            self._handed.append((held, passed))
        for job in ids:
            self.rights.leaves(job)
        nodes = {part.node for run in runs for part in run.parts}
        self._fell |= nodes
        self.candidates.fall(ids, nodes)
        self.bounds.fell(nodes)
        self.rights.moved(pool, ask.team)
        for team in sorted({victim.team for victim in victims}):
            self.rights.moved(pool, team)
            self.cycle.tournament.improved(team, ask.team)
        return Claim(want.job, parts, pool, self.now, expires, ids)

    def return_to(self, ask: Ask, kind: Kind, pool: str, units: int) -> Claim | None:
        """A suspended job comes back to its own cards: whoever is on them must be one that it may take."""
        want = Want(ask.job, ask.team, ask.shape, pool, self.now + ask.limit_s)
        size = size_of(self.policy, kind.tier, left_s=ask.limit_s, attained=ask.attained)
        taking = self._taking(ask, want, kind, units, size)
        ledger = self.state.ledger
        cards = (ledger.where[piece.gpu] for part in ask.pinned for piece in part.pieces)
        sitting = {job for host, place in cards for job, _ in host.cards[place]}
        hosts = {part.node for part in ask.pinned}
        found = {v.job: v for host_id in hosts for v in self.rights.on(host_id, taking, set()) if v.job in sitting}
        victims = tuple(found[job] for job in sorted(found))
        if not victims or set(found) != sitting or not self.rights.in_allowed_order(taking, victims):
            return None
        mark = ledger.checkpoint()
        for victim in victims:
            self._gives_way(victim)
        free = self.state.search.is_free(ask.pinned, ask.team, want.until)
        ledger.rollback(mark)
        return self._claim(taking, pool, ask.pinned, victims) if free else None

    def _gives_way(self, victim: Victim) -> None:
        """In a trial: its place is free, less the memory that it keeps where it is suspended."""
        for part in victim.parts:
            self.state.ledger.give(victim.job, part)
        self._saves_its_memory(victim)

    def _saves_its_memory(self, victim: Victim) -> None:
        if victim.saves > 0:
            for part in saved_parts(victim.parts, victim.saves):
                self.state.ledger.take(-victim.job, part)

    def undo(self) -> None:
        """Back to what is so far: the victims still have what they hold."""
        for held, passed in self._handed:
            self.state.account(held.pool, held.team).add(passed)
            held.handed -= passed
        self.bounds.touch(sorted(self._fell))
