"""The best set of victims on one node: the smallest by the stated order that leaves room for one replica."""

from itertools import combinations
from typing import TYPE_CHECKING

from scheduling.core.candidates import Victim, all_stopped, cards_on
from scheduling.core.ledger import Host
from scheduling.core.places.filters import Want
from scheduling.core.taking import SetKey, Taking, cost_of
from scheduling.core.victims import Rights

if TYPE_CHECKING:
    from scheduling.core.plan import Cycle

#: all sets of so many candidates are compared; where there are more, those of the cheapest so many on the node, and for
#: a job that needs one card, or a part of one, those on each card
EXACT = 10


class SmallestSet:
    """Looks at one node at a time, on the ledger as it stands."""

    def __init__(self, cycle: "Cycle", rights: Rights) -> None:
        self.state, self.rights = cycle.state, rights
        #: MiB that stay on the node for each candidate that would be suspended, while sets of them are compared
        self._saves: dict[int, int] = {}

    def on(
        self, taking: Taking, host: Host, cards: int, before: tuple[Victim, ...], to_beat: SetKey | None
    ) -> tuple[Victim, ...] | None:
        """The best set on one node, unless it is worse than `to_beat`: where there are few candidates, all sets are
        compared. `before`: victims that go for earlier replicas of the same gang. Sets that are as good as `to_beat`
        count, so that the choice among nodes does not depend on the order in which they are looked at. Others that
        may be taken only together with some of the own team's are looked at apart: what suffices without them stays."""
        known = {victim.job for victim in before}
        ranked = self.rights.on(host.id, taking, known)
        best = self._of(taking, host, cards, ranked, before, to_beat)
        beside = self.rights.beside(host.id, taking)
        more = self.rights.on(host.id, taking, known, beside) if beside else ranked
        if len(more) > len(ranked):
            if best is not None and (to_beat is None or cost_of(best) < to_beat):
                to_beat = cost_of(best)
            best = self._of(taking, host, cards, more, before, to_beat) or best
        return best

    def _of(
        self, taking: Taking, host: Host, cards: int, ranked: list[Victim], before: tuple[Victim, ...],
        to_beat: SetKey | None,
    ) -> tuple[Victim, ...] | None:  # fmt: skip
        """The best set of these candidates, unless it is worse than `to_beat`."""
        want, known = taking.want, {victim.job for victim in before}
        if taking.free is not None and not self.rights.within_limits(taking, ranked):
            return None
        if (
            taking.free is None
            and not known
            and host.free.bit_count() + sum(cards_on(v.parts, host.id) for v in ranked) < want.shape.gpus
        ):
            return None
        if len(ranked) > 1 and not self._room_with(taking, host, cards, {v.job for v in ranked} | known):
            return None
        saves = {v.job: v.saves for v in ranked if v.saves > 0}
        if not saves:
            return self._compare(taking, host, cards, ranked, before, to_beat)
        self._saves = saves
        best = self._compare(taking, host, cards, ranked, before, to_beat)
        self._saves = {}
        if self._memory_for_all(want, host, sum(saves.values())):
            return best
        # What they save may take the memory that the job needs: fewer of them, or any at all, do if they are stopped.
        if best is not None and (to_beat is None or cost_of(best) < to_beat):
            to_beat = cost_of(best)
        stopped = self._compare(taking, host, cards, all_stopped(ranked), before, to_beat)
        if stopped is None or (best is not None and cost_of(best) <= cost_of(stopped)):
            return best
        return self._suspended_again(taking, host, cards, {v.job: v for v in ranked}, stopped, known)

    def _memory_for_all(self, want: Want, host: Host, saves: int) -> bool:
        """Is there memory for the job and for all that is saved, even if nobody gave any back?"""
        memory = host.memory
        if host.id in self.state.promises.hosts:
            memory = self.state.promises.limits(host, want.team, want.until)[2]
        kept = 0 if want.shape.wants_gpu else self.state.search.kept(host, host.all)[1]
        return memory - kept - saves >= want.shape.memory_mib

    def _suspended_again(
        self, taking: Taking, host: Host, cards: int, could: dict[int, Victim], stopped: tuple[Victim, ...],
        known: set[int],
    ) -> tuple[Victim, ...]:  # fmt: skip
        """The same victims, of whom those stay suspended for whom there is memory, the most work first."""
        ways = {victim.job: victim for victim in stopped}
        gone = {*ways, *known}
        for victim in sorted(stopped, key=lambda v: (could[v.job].lost - v.lost, v.job)):
            if could[victim.job].saves > 0 and could[victim.job].lost < victim.lost:
                self._saves[victim.job] = could[victim.job].saves
                if self._room_with(taking, host, cards, gone):
                    ways[victim.job] = could[victim.job]
                else:
                    del self._saves[victim.job]
        self._saves = {}
        return tuple(ways.values())

    def _compare(
        self, taking: Taking, host: Host, cards: int, ranked: list[Victim], before: tuple[Victim, ...],
        to_beat: SetKey | None,
    ) -> tuple[Victim, ...] | None:  # fmt: skip
        best = self._greedy(taking, host, cards, ranked, before) if len(ranked) > EXACT else None
        if best is not None and (to_beat is None or cost_of(best) < to_beat):
            to_beat = cost_of(best)
        for among in _compared(taking.want, host, cards, ranked):
            better = self._best_among(taking, host, cards, among, before, to_beat)
            if better is not None:
                best, to_beat = better, cost_of(better)
        return best

    def _best_among(
        self, taking: Taking, host: Host, cards: int, among: list[Victim], before: tuple[Victim, ...],
        to_beat: SetKey | None,
    ) -> tuple[Victim, ...] | None:  # fmt: skip
        """The best of all sets of these victims, unless it is worse than `to_beat`."""
        known = {victim.job for victim in before}
        missing = taking.want.shape.gpus if taking.free is None else 0
        best = None
        for size in range(_fewest(missing, host, among, known), len(among) + 1):
            if to_beat is not None and _cheapest(among, size) > to_beat[:4]:
                break
            for chosen in combinations(among, size):
                key = cost_of(chosen)
                if to_beat is not None and key > to_beat:
                    continue
                fits = self._room_with(taking, host, cards, {v.job for v in chosen} | known)
                if fits and self.rights.in_allowed_order(taking, (*before, *chosen)):
                    best, to_beat = chosen, key
        return best

    def _greedy(
        self, taking: Taking, host: Host, cards: int, ranked: list[Victim], before: tuple[Victim, ...]
    ) -> tuple[Victim, ...] | None:
        """Many small runs on one node: take the cheapest until it fits, then put back what was not needed."""
        chosen: list[Victim] = []
        for victim in ranked:
            chosen.append(victim)
            if self._enough(taking, host, cards, (*before, *chosen)):
                break
        for victim in chosen[::-1]:
            if self._enough(taking, host, cards, (*before, *(v for v in chosen if v is not victim))):
                chosen.remove(victim)
        return tuple(chosen) if self.rights.in_allowed_order(taking, (*before, *chosen)) else None

    def _enough(self, taking: Taking, host: Host, cards: int, gone: tuple[Victim, ...]) -> bool:
        """Would one replica fit, and all limits be kept, if these were gone?"""
        fits = self._room_with(taking, host, cards, {victim.job for victim in gone})
        return fits and self.rights.within_limits(taking, gone)

    def _room_with(self, taking: Taking, host: Host, suitable: int, without: set[int]) -> bool:
        """Would one replica fit on the node if these jobs were gone from it, or has it a place on another one already?
        (On this one they may leave what they save, so its free place need not last.)"""
        if taking.free is not None and taking.free.node != host.id:
            return True
        return self.state.search.cards_for(host, taking.want, suitable, without, self._saves) != 0


def _compared(want: Want, host: Host, cards: int, ranked: list[Victim]) -> list[list[Victim]]:
    """The candidates of which all sets are compared, in lists of at most EXACT."""
    lists = [ranked[:EXACT]]
    if len(ranked) > EXACT and want.shape.wants_gpu and want.shape.gpus <= 1:
        for place, card in enumerate(host.cards):
            here = {job for job, _ in card} if cards >> place & 1 else None
            if here:
                lists.append([victim for victim in ranked if victim.job in here][:EXACT])
    return lists


def _fewest(gpus: int, host: Host, victims: list[Victim], known: set[int]) -> int:
    """No set of fewer of these victims frees so many cards here; jobs in `known` are gone already."""
    missing = gpus - (
        sum(all(job in known for job, _ in card) for card in host.cards) if known else host.free.bit_count()
    )
    count, freed = 0, sorted((cards_on(victim.parts, host.id) for victim in victims), reverse=True)
    while missing > 0 and count < len(freed):
        missing -= freed[count]
        count += 1
    return count


def _cheapest(victims: list[Victim], size: int) -> tuple[bool, int, int, int]:
    """Not more than the first four terms of `cost_of` for any set of so many of these victims, term by term."""
    if not size:
        return (False, -(1 << 30), 0, 0)
    guaranteed = sorted(v.guaranteed for v in victims)[size - 1]
    return (guaranteed, sorted(-v.tier for v in victims)[size - 1], sum(sorted(v.lost for v in victims)[:size]), size)
