"""Who is next: a tournament up the team tree, not a sort key.

The order (DESIGN, Order): critical -> in-guarantee before borrowing -> tier -> team share as if admitted, at each
level from the root down to the person -> latest start -> priority -> size rule -> submitted -> id. At every level the
children's best jobs meet; "in-guarantee" and "share" are those of the child at that level. Shares "as if admitted"
follow Armada, the descent by share follows Slurm's Fair Tree and Kueue's hierarchical fair sharing.

Keys are kept in heaps and known until something moves. A decision moves keys on its own team's way to the root, which
are looked at again there; and in its team those of people whose champion has left the guarantee with it, or needs no
trial any more. An eviction moves keys on the way of the victim's team. Nobody else's key depends on it.
"""

from heapq import heapify, heappop, heappush, heapreplace

from scheduling.core.queue import NEVER, Entry, Key, Kind, Pair, Queue, Rank, Row
from scheduling.core.quota import Account, Tree, common_scales
from scheduling.core.shares import Shares
from scheduling.core.standing import standing

__all__ = ["NEVER", "Entry", "Kind", "Queue", "Seat", "Tournament"]

#: (pool, units, within the guarantee)
Place = tuple[str, int, bool]


class Seat:
    """A place in the tournament: a team with its children, or a person with his rows.

    `best`: its champion. `key`: how its parent compares it, and `place`: (pool, units, within the guarantee) of its
    champion there, both known as of the `stamp`-th of the `moves` that were counted here. `champions`: the people of a
    team by the kind of their champion.
    """

    __slots__ = ("best", "champions", "heap", "key", "moves", "parent", "place", "rows", "seats", "stamp", "team",
                 "user")  # fmt: skip

    def __init__(self, team: int, user: int, parent: "Seat | None") -> None:
        self.team, self.user, self.parent = team, user, parent
        self.heap: list[tuple[Key, int, Seat]] = []
        self.rows: list[tuple[Key, Row]] = []
        self.seats: list[Seat] = []
        self.best: Pair | None = None
        self.key: Key | None = None
        self.place: Place = ("", 0, False)
        self.champions: dict[Kind, dict[Seat, None]] = {}
        self.moves, self.stamp = 0, -1


class Tournament:
    """One walk through the queue. `next()` names the best job that is still worth trying; `passed()` takes it out."""

    def __init__(self, queue: Queue, trees: dict[str, Tree], now: int) -> None:
        self.queue, self.trees = queue, trees
        self.shares = Shares(trees, common_scales(trees), now, queue.policy.half_life_s)
        self._root = Seat(0, 0, None)
        self._team_seats: dict[int, Seat] = {0: self._root}
        self._chosen, self._row = self._root, Row()
        self._held: list[tuple[Account, int]] = []
        self._serial = 0

    def enter(self, team: int) -> None:
        """All jobs of a team take part."""
        seat = self._seat_of(team)
        people = self.queue.rows.get(team, {})
        outside: dict[Rank, bool] = {}
        for user in sorted(people):
            person = Seat(team, user, seat)
            self.shares.recall(team, user)
            for rank, row in people[user].items():
                if rank not in outside:
                    outside[rank] = not self._place(seat, row.pairs[0][1])[2]
                person.rows.append(row.seed(outside=outside[rank]))
            heapify(person.rows)
            seat.seats.append(person)

    def begin(self) -> None:
        """Everybody is in: seed every level, from the leaves up."""
        self._seed(self._root)

    def next(self) -> Pair | None:
        """The best job that is left, or None."""
        champion = self._champion(self._root)
        if champion is not None:
            seat = self._root
            while not seat.user:
                seat = seat.heap[0][2]
            self._chosen, self._row = seat, seat.rows[0][1]
            accounts = (tree.account(seat.team) for tree in self.trees.values())
            self._held = [(account, account.used) for account in accounts if account.used < account.guaranteed]
        return champion

    def passed(self) -> None:
        """The champion has been decided: its row goes on behind it."""
        self._row.index += 1
        seat, above = self._chosen, self._chosen.parent
        while above is not None:
            seat.moves += 1
            above.moves += 1
            if seat is self._chosen and any(account.used != used for account, used in self._held):
                people = (person for person in above.seats if person.user and person.best)
                self._push(above, [p for p in people if p.best and self._place(p, p.best[1]) != p.place])
            if above.heap[0][2] is not seat:
                self._push(above, [seat])
            seat, above = above, above.parent

    def bury(self, kind: Kind, limit_s: int) -> None:
        """Nobody of this kind behind the champion on its own row needs to be tried with such a limit or a longer
        one."""
        row = self._row
        row.dead = {**(row.dead or {}), kind: limit_s}  # limits only fall: what is as long is not tried again

    def buried(self, kind: Kind, *, family: bool) -> None:
        """Some of this kind, or of its family, need not be tried any more, whoever asks for them."""
        team = self._chosen.parent
        assert team is not None, "a kind is buried by its champion"
        kinds = [k for k in team.champions if k.family is kind.family] if family else [kind]
        struck = [person for k in kinds for person in team.champions.get(k, ())]
        team.moves += 1
        self._push(team, [person for person in struck if person is not self._chosen])

    def improved(self, team: int, beneficiary: int) -> None:
        """A team's work was evicted, so its keys got better: key its way up anew, to where it meets the way of the
        beneficiary's team; from there on at least as much was added as was taken."""
        tree = next(iter(self.trees.values()))
        above = {account.team for account in tree.account(beneficiary).path()}
        for account in reversed(tree.account(team).path()):
            if account.team in above:
                return
            seat = self._team_seats.get(account.team)
            if seat is not None:
                self._rekey(seat)

    def close(self) -> None:
        """The walk is over: seats that know each other are let go at once, not left to the garbage collector."""
        for seat in self._team_seats.values():
            seat.seats.clear()
            seat.heap.clear()
            seat.champions.clear()

    # ---------------------------------------------------------------------------------------- the tree
    def _seat_of(self, team: int) -> Seat:
        seat = self._team_seats.get(team)
        if seat is None:
            account = next(iter(self.trees.values())).account(team) if self.trees else None
            above = account.parent.team if account is not None and account.parent is not None else 0
            parent = self._seat_of(above)
            seat = self._team_seats[team] = Seat(team, 0, parent)
            parent.seats.append(seat)
        return seat

    def _seed(self, seat: Seat) -> None:
        for child in seat.seats:
            if not child.user:
                self._seed(child)
        self._fill(seat)

    def _fill(self, seat: Seat) -> None:
        seat.heap = []
        self._push(seat, seat.seats)

    def _push(self, seat: Seat, children: list[Seat]) -> None:
        """Their keys may be better than the heap knows. What it knew of them before is out of date from now on, and
        looked at again when it comes to the top."""
        for child in children:
            key = self._key(child)
            if key is not None:
                self._serial += 1
                heappush(seat.heap, (key, self._serial, child))

    def _rekey(self, seat: Seat) -> None:
        """Its keys may be better than its parent knows. Its people's rows are looked at only where the team has come
        back below a guarantee."""
        seat.moves += 1
        if any(tree.account(seat.team).used < tree.account(seat.team).guaranteed for tree in self.trees.values()):
            for person in seat.seats:
                if person.user:
                    person.rows = [
                        (self._row_key(row.pairs[row.index]), row)
                        for _, row in person.rows
                        if row.index < len(row.pairs)
                    ]
                    heapify(person.rows)
            self._fill(seat)
        parent = seat.parent
        assert parent is not None, "the root has no account that anybody could be evicted from"
        self._push(parent, [seat])

    # ---------------------------------------------------------------------------------------- champions
    def _champion(self, seat: Seat) -> Pair | None:
        """The seat's best job, after a second look at every stored key that comes to the top."""
        if seat.user:
            return self._champion_of_rows(seat)
        heap = seat.heap
        while heap:
            key, serial, child = heap[0]
            present = self._key(child)
            if present is None:
                heappop(heap)
            elif present == key:
                seat.best = child.best
                return child.best
            else:
                heapreplace(heap, (present, serial, child))
        seat.best = None
        return None

    def _champion_of_rows(self, seat: Seat) -> Pair | None:
        rows = seat.rows
        while rows:
            key, row = rows[0]
            pairs, index = row.pairs, row.index
            while index < len(pairs):
                entry, kind = pairs[index]
                limit = entry[7]
                alive = limit < kind.dead_from and limit < kind.family.dead_from
                if alive and (not row.dead or limit < row.dead.get(kind, NEVER)):
                    break
                index += 1
            row.index = index
            if index >= len(pairs):
                heappop(rows)
                continue
            present = self._row_key(pairs[index])
            if present == key:
                self._best_is(seat, pairs[index])
                return seat.best
            heapreplace(rows, (present, row))
        self._best_is(seat, None)
        return None

    def _best_is(self, person: Seat, pair: Pair | None) -> None:
        if person.parent is not None and person.best is not pair:
            champions = person.parent.champions
            if person.best is not None:
                alike = champions[person.best[1]]
                del alike[person]
                if not alike:
                    del champions[person.best[1]]
            if pair is not None:
                champions.setdefault(pair[1], {})[person] = None
        person.best = pair

    # ---------------------------------------------------------------------------------------- keys
    def _row_key(self, pair: Pair) -> Key:
        """Among a person's own jobs: critical, in-guarantee, tier, and the job's own terms."""
        entry, kind = pair
        pool, units = self.shares.where(kind)
        inside = self.trees[pool].account(kind.team).guarantees(units) if pool else False
        return (entry[0], not inside, *entry[1:])

    def _key(self, child: Seat) -> Key | None:
        """A child's champion as its parent compares it with the other children's."""
        parent = child.parent
        moves = parent.moves if child.user and parent is not None else child.moves
        if child.stamp != moves:
            child.key, child.stamp = self._key_anew(child), moves
        return child.key

    def _key_anew(self, child: Seat) -> Key | None:
        champion = self._champion(child)
        if champion is None:
            return None
        entry, kind = champion
        pool, units, inside = child.place = self._place(child, kind)
        if not pool:
            return (entry[0], 1, entry[1], 0, 0, *entry[2:])
        if child.user:
            return (entry[0], not inside, entry[1], 0, self.shares.of_person(child.team, child.user, pool, units),
                    *entry[2:])  # fmt: skip
        return (entry[0], not inside, entry[1], *self.shares.of_team(child.team, pool, units), *entry[2:])

    def _place(self, seat: Seat, kind: Kind) -> Place:
        pool, units = self.shares.where(kind)
        return pool, units, bool(pool) and self.trees[pool].account(seat.team).guarantees(units)

    def standing(self) -> list[Pair]:
        """Everybody who took part, in the order in which they stand now."""
        people = [person for seat in self._team_seats.values() for person in seat.seats if person.user]
        return standing(self.shares, ((person.user, self.queue.rows[person.team][person.user]) for person in people))
