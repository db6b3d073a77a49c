"""When and where a blocked job will start, from the time limits of what runs: its reservation.

Slurm's backfill (`sched_config`, bf_*) keeps one map of the whole cluster over time; here each node has its own short
list of ends, and only nodes with a promise are looked at more than once. A reservation names cards: they are the ones
that are free by then, so that what is free before, or free all along, stays open to others.
"""

from bisect import insort
from heapq import heappop, heappush

from scheduling.core.cluster import Part, Piece
from scheduling.core.ledger import Host
from scheduling.core.placement import Search
from scheduling.core.places.cards import bits, part_of
from scheduling.core.places.filters import Fits, Fitting, Options, Want, by_island
from scheduling.core.places.gangs import domains
from scheduling.core.promises import Promise

#: (time, replicas that fit from then on), in the order of time; the last entry is what the empty node holds
Steps = list[tuple[int, int]]


class TimeMap:
    """The future of each node under the limits of what it holds. Valid within one plan."""

    def __init__(self, search: Search, now: int) -> None:
        self.search, self.now = search, now
        self._steps: dict[tuple[object, ...], dict[int, Steps]] = {}
        self._by_first_card: dict[tuple[object, ...], list[tuple[int, int, int]]] = {}
        self._known_changes: dict[tuple[object, ...], int] = {}

    # ---------------------------------------------------------------------------------------- the question
    def earliest(self, want: Want, groups: Options) -> tuple[int, tuple[Part, ...]] | None:
        """The first time at which every replica has a place for the whole length of its limit, and which places."""
        ask = self._earliest_single if want.shape.gpus and want.shape.replicas == 1 else self.earliest_anywhere
        found = [ask(want, inside) for inside in by_island(groups, want.shape)]
        return min((answer for answer in found if answer is not None), key=lambda answer: answer[0], default=None)

    def earliest_anywhere(self, want: Want, groups: Options) -> tuple[int, tuple[Part, ...]] | None:
        """The answer for any shape, time by time: a node is looked at once the time has come from which it might hold a
        replica, because before that it cannot matter."""
        coming = self._coming(want, groups)
        known = self._known_steps(want, groups)
        times = sorted(self._promised_ends(groups))
        hosts: dict[int, tuple[Host, int]] = {}
        steps: dict[int, Steps] = {}
        entered = reachable = 0
        last = -1
        while times or entered < len(coming):
            while entered < len(coming) and (not times or coming[entered][0] <= times[0]):
                not_before, host_id, cards = coming[entered]
                entered += 1
                host = self.search.ledger.hosts[host_id]
                if host_id not in known:
                    known[host_id] = self._steps_of(want, host, cards)
                if known[host_id]:
                    hosts[host_id], steps[host_id] = (host, cards), known[host_id]
                    reachable += known[host_id][-1][1]
                    for at, _ in known[host_id]:
                        heappush(times, max(at, not_before))
            if not times:
                return None
            at = heappop(times)
            if at == last or reachable < want.shape.replicas:
                continue
            last = at
            fitting = self._fitting_at(want, hosts, steps, at, want.until - self.now)
            if sum(found.replicas for found in fitting) < want.shape.replicas:
                continue
            for domain in domains(self.search.policy.levels, want.shape, fitting):
                return at, self._parts_at(want, domain, at, want.until - self.now)
        return None

    def _earliest_single(self, want: Want, groups: Options) -> tuple[int, tuple[Part, ...]] | None:
        """One replica of whole cards: nodes in the order in which enough cards are free, which bounds when it can start
        there, until the rest must be later. Ties go to the lower id."""
        best: tuple[int, int, int] | None = None
        coming, index = self._coming(want, groups), 0
        while index < len(coming):
            bound, host_id, cards = coming[index]
            if best is not None and bound > best[0]:
                break
            host = self.search.ledger.hosts[host_id]
            later = self._not_before(host, cards, want.shape.gpus, bound)
            if later > bound:  # others have been promised its cards: it is looked at when its turn has come
                del coming[index]
                insort(coming, (later, host_id, cards))
                continue
            index += 1
            at = self._first_on(want, host, cards, bound)
            if at is not None and (best is None or (at, host_id) < best[:2]):
                best = (at, host_id, cards)
        if best is None:
            return None
        at, host_id, cards = best
        entry = Fits(1, self.search.ledger.hosts[host_id], cards, 1)
        return at, tuple(self._on_host(want, entry, 1, at, want.until - self.now))

    def _not_before(self, host: Host, cards: int, gpus: int, bound: int) -> int:
        """The first moment from `bound` on at which so many cards are neither held nor promised to blocked jobs.
        Whoever asks, and for however long: he cannot start earlier, and while a plan is made it only becomes later."""
        promises = self.search.promises
        known = promises.hosts.get(host.id)
        if not known:
            return bound

        def open_at(at: int) -> bool:
            return (promises.cards_at(host, at) & cards & ~promises.reserved_at(host, at)).bit_count() >= gpus

        if open_at(bound):
            return bound
        times = {*promises.cards_free_from(host), *(promise.ends for promise in known)}
        for at in sorted(time for time in times if time > bound):
            if open_at(at):
                return at
        raise AssertionError("every holder gives its cards back, and every promise ends")

    def _first_on(self, want: Want, host: Host, cards: int, bound: int) -> int | None:
        """When this node has room for the whole length of the limit, not before `bound`."""
        promises, length = self.search.promises, want.until - self.now
        if self._count_at(want, host, cards, bound, promises.window(host, want.team, bound, bound + length)):
            return bound
        times = {*promises.cards_free_from(host), *(promise.ends for promise in promises.hosts.get(host.id, ()))}
        times |= {promises.ends[job] for job, _ in host.parts if job in promises.ends}
        for at in sorted(time for time in times if time > bound):
            taken = promises.window(host, want.team, at, at + length)
            if self._count_at(want, host, cards, at, taken):
                return at
        return None

    def promise(self, job: int, at: int, until: int, parts: tuple[Part, ...]) -> None:
        """Keep these parts for the job: from now on nothing may reach into them."""
        # One promise for all replicas on a node: what is promised there is summed up again and again.
        by_node: dict[int, list[Part]] = {}
        for part in parts:
            by_node.setdefault(part.node, []).append(part)
        for node, here in by_node.items():
            cards = 0
            for piece in (piece for part in here for piece in part.pieces):
                cards |= 1 << self.search.ledger.where[piece.gpu][1]
            cpu, memory = sum(part.cpu_millis for part in here), sum(part.memory_mib for part in here)
            self.search.promises.add(node, Promise(at, until, cards, cpu, memory, job=job))

    # ---------------------------------------------------------------------------------------- per node
    def _hosts(self, groups: Options) -> list[tuple[int, Host, int]]:
        hosts = self.search.ledger.hosts
        return [(i, hosts[i], cards) for group, cards in groups for bucket in group.buckets for i in bucket]

    def _coming(self, want: Want, groups: Options) -> list[tuple[int, int, int]]:
        """(not before when it can hold a replica, node, suitable cards), in order. For whole cards that is when so many
        are free, as counted when it was first asked: while a plan is made it can only become later."""
        promises = self.search.promises
        if not want.shape.gpus:
            return [(self.now, host_id, cards) for host_id, _, cards in self._hosts(groups)]
        key = (want.shape.gpus, *((id(group), cards) for group, cards in groups))
        coming = self._by_first_card.get(key)
        if coming is None:
            coming = self._by_first_card[key] = sorted(
                (max(self.now, free_from[want.shape.gpus - 1]), host_id, cards)
                for host_id, host, cards in self._hosts(groups)
                if len(free_from := promises.free_from(host, cards)) >= want.shape.gpus
            )
        return coming

    def _known_steps(self, want: Want, groups: Options) -> dict[int, Steps]:
        """The steps of nodes that are known for this shape on these cards, without those where the ledger has changed
        since."""
        cards = tuple((id(group), suitable) for group, suitable in groups)
        key = (want.shape, want.team if want.shape.thousandths else 0, cards)
        changes = self.search.ledger.changes
        known = self._steps.setdefault(key, {})
        for host_id in set(changes[self._known_changes.get(key, 0) :]):
            known.pop(host_id, None)
        self._known_changes[key] = len(changes)
        return known

    def _steps_of(self, want: Want, host: Host, suitable: int) -> Steps:
        """From when on how many replicas fit, as what runs comes to its end."""
        ends = self.search.promises.ends
        if want.shape.gpus and (quick := self._by_cards(want, host, suitable)) is not None:
            return quick
        steps: Steps = []
        for at in sorted({self.now, *(ends[job] for job, _ in host.parts if job in ends)}):
            fits = self._count_at(want, host, suitable, at, (0, 0, 0))
            if fits and (not steps or fits > steps[-1][1]):
                steps.append((at, fits))
        return steps

    def _by_cards(self, want: Want, host: Host, suitable: int) -> Steps | None:
        """The steps where cards are all that binds: replica k fits when card k * gpus is free. None: CPU or memory
        bind."""
        shape = want.shape
        free_from = self.search.promises.free_from(host, suitable)
        steps: Steps = []
        for count in range(1, min(shape.replicas, len(free_from) // shape.gpus) + 1):
            at = max(self.now, free_from[count * shape.gpus - 1])
            cpu, memory = self.search.promises.free_at(host, at)
            if cpu < count * shape.cpu_millis or memory < count * shape.memory_mib:
                return None
            if steps and steps[-1][0] == at:
                steps.pop()
            steps.append((at, count))
        return steps

    def _promised_ends(self, groups: Options) -> set[int]:
        promised, hosts = self.search.promises.hosts, self.search.ledger.hosts
        among = {id(group) for group, _ in groups}
        return {p.ends for host_id in promised if id(hosts[host_id].group) in among for p in promised[host_id]}

    def _fitting_at(
        self, want: Want, hosts: dict[int, tuple[Host, int]], steps: dict[int, Steps], at: int, length: int
    ) -> Fitting:
        """What fits on each node if it starts at `at` and keeps its place for `length`."""
        fitting: Fitting = []
        promises = self.search.promises
        for host_id, host_steps in steps.items():
            if host_steps[0][0] > at:
                continue
            host, suitable = hosts[host_id]
            if host_id in promises.hosts:
                taken = promises.window(host, want.team, at, at + length)
                fits = self._count_at(want, host, suitable, at, taken)
            else:
                fits = next(count for when, count in reversed(host_steps) if when <= at)
            if fits:
                fitting.append(Fits(fits, host, suitable, fits))
        fitting.sort(key=lambda found: found.host.id)
        return fitting

    def _count_at(self, want: Want, host: Host, suitable: int, at: int, taken: tuple[int, int, int]) -> int:
        """Replicas that the node could hold at `at`, beside the cards, CPU and memory that others are promised."""
        shape = want.shape
        taken_cards, taken_cpu, taken_memory = taken
        promises, count = self.search.promises, shape.replicas
        if shape.gpus:
            count = (promises.cards_at(host, at) & suitable & ~taken_cards).bit_count() // shape.gpus
            if not count:
                return 0
        elif shape.wants_gpu:
            count = len(self._pieces_at(want, host, suitable & ~taken_cards, at, shape.replicas))
        cpu, memory = promises.free_at(host, at)
        cpu, memory = cpu - taken_cpu, memory - taken_memory
        if not shape.wants_gpu:
            kept_cpu, kept_memory = self.search.kept(host, promises.cards_at(host, at))
            cpu, memory = cpu - kept_cpu, memory - kept_memory
        if shape.cpu_millis:
            count = min(count, cpu // shape.cpu_millis)
        if shape.memory_mib:
            count = min(count, memory // shape.memory_mib)
        return max(0, count)

    def _pieces_at(self, want: Want, host: Host, cards: int, at: int, most: int) -> list[Piece]:
        """Up to `most` parts of these cards, for one replica each."""
        ends = self.search.promises.ends
        then = [[(job, piece) for job, piece in card if ends[job] > at] for card in host.cards]
        return self.search.pieces(want, host, cards, then, most)

    # ---------------------------------------------------------------------------------------- the parts
    def _parts_at(self, want: Want, domain: Fitting, at: int, length: int) -> tuple[Part, ...]:
        """Which cards: the fullest nodes first, as placement would fill them."""
        shape = want.shape
        parts: list[Part] = []
        rest = list(domain)
        while len(parts) < shape.replicas:
            missing = shape.replicas - len(parts)
            enough = [entry for entry in rest if entry.replicas >= missing]
            chosen = (
                min(enough, key=lambda e: (e.replicas, e.host.id))
                if enough
                else max(rest, key=lambda e: (e.replicas, -e.host.id))
            )
            rest.remove(chosen)
            parts += self._on_host(want, chosen, min(missing, chosen.replicas), at, length)
        return tuple(parts)

    def _on_host(self, want: Want, entry: Fits, count: int, at: int, length: int) -> list[Part]:
        host, suitable = entry.host, entry.suitable
        shape = want.shape
        if not shape.wants_gpu:
            return [Part(host.id, (), shape.cpu_millis, shape.memory_mib)] * count
        promises = self.search.promises
        taken, _, _ = promises.window(host, want.team, at, at + length)
        if shape.gpus:
            cards = self._latest_first(host, promises.cards_at(host, at) & suitable & ~taken, shape.gpus * count)
            parts = []
            for _ in range(count):
                part = part_of(host, shape, cards)
                parts.append(part)
                for piece in part.pieces:
                    cards &= ~(1 << self.search.ledger.where[piece.gpu][1])
            return parts
        pieces = self._pieces_at(want, host, suitable & ~taken, at, count)
        return [Part(host.id, (piece,), shape.cpu_millis, shape.memory_mib) for piece in pieces]

    def _latest_first(self, host: Host, cards: int, count: int) -> int:
        """Of the cards that are free by then, those that become free last: the others can serve somebody until then."""
        free_from = self.search.promises.cards_free_from(host)
        chosen = sorted(bits(cards), key=lambda place: (-free_from[place], place))[:count]
        return sum(1 << place for place in chosen)
