"""The runs of one cycle that may be evicted at all, and what would be lost with each: looked up where they are needed.

Everything here is as it was when the cycle began, whatever has been decided since; only those that fall drop out.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from scheduling.core.cluster import Part, Run
from scheduling.core.lifecycle import JobState
from scheduling.core.queue import size_of

if TYPE_CHECKING:
    from scheduling.core.plan import Cycle


class Victim(NamedTuple):
    """A run that might go. `guaranteed`: it lies within its team's guarantee. `lost`: unit-seconds thrown away with it.
    `turn`: it may be suspended and has had its turn; `size`: by the size rule of its tier. `sort`: (team, units,
    guaranteed, tier): those of other teams that agree in it may be taken by the same jobs. `saves`: MiB of its node's
    memory that it takes once suspended, or STOPS; `ran`: unit-seconds that are lost if it is stopped."""

    job: int
    team: int
    units: int
    guaranteed: bool
    tier: int
    lost: int
    size: int
    turn: bool
    parts: tuple[Part, ...]
    sort: tuple[int, int, bool, int]
    saves: int
    ran: int


#: `Victim.saves` of a run that is stopped, not suspended
STOPS = -1


def cheapest_first(victim: Victim) -> tuple[bool, int, int, int]:
    return (victim.guaranteed, -victim.tier, victim.lost, victim.job)


def all_stopped(victims: Iterable[Victim]) -> list[Victim]:
    """The same victims where none of them would be suspended: its work is lost, and its turn is no reason to go."""
    stopped = (victim._replace(lost=victim.ran, turn=False, saves=STOPS) for victim in victims)
    return sorted(stopped, key=cheapest_first)


def cards_on(parts: tuple[Part, ...], node: int) -> int:
    """How many cards, or pieces of cards, these hold there."""
    if len(parts) == 1:
        return len(parts[0].pieces)
    return sum(len(part.pieces) for part in parts if part.node == node)


class Holdings(NamedTuple):
    """What one team holds in one pool that may be evicted: units of its smallest borrowed run (-1: none), and of
    all of them by tier."""

    least_borrowed: int
    tiers: dict[int, int]


class Candidates:
    """Whose runs might go, by team and by node."""

    def __init__(self, cycle: "Cycle") -> None:
        self.cycle, self.state, self.now, self.policy = cycle, cycle.state, cycle.now, cycle.policy
        #: runs that are going already: stopped by this plan, victims of it, and of claims that others have
        self.gone = {victim for claim in self.state.claims.values() for victim in claim.victims}
        self.gone |= {stop.job for stop in cycle.stops}
        self._memory = {host.id: host.memory for host in self.state.ledger.hosts.values()}
        for claim in self.state.claims.values():  # their jobs start only when those that are being suspended have gone
            for part in claim.parts:
                self._memory[part.node] = self._memory.get(part.node, 0) + part.memory_mib
        self._victims: dict[int, Victim] = {}
        self._on_host: dict[int, list[Victim]] = {}
        self._teams = self.state.bounds.teams
        self._holdings: dict[str, dict[int, Holdings]] = {}
        self._nodes: dict[tuple[str, int, int], list[int]] = {}
        self._some_suspend: bool | None = None
        self._most_served: dict[tuple[str, int, int], int] = {}

    def fall(self, jobs: tuple[int, ...], nodes: set[int]) -> None:
        """These go, and they ran on these nodes."""
        self.gone.update(jobs)
        for node in nodes:
            self._on_host.pop(node, None)

    # ---------------------------------------------------------------------------------------- by team
    def holdings(self, pool: str) -> dict[int, Holdings]:
        """Of every team that holds anything there that may be evicted, in the order of ids."""
        known = self._holdings.get(pool)
        if known is None:
            known = self._holdings[pool] = {}
            for key in sorted(key for key in self.state.filling.lines if key[0] == pool):
                beyond, least, tiers = self.state.filling.beyond[key], -1, dict[int, int]()
                for place in self.state.filling.lines[key]:
                    if place[5]:
                        tiers[place[1]] = tiers.get(place[1], 0) + place[4]
                        if beyond is not None and place >= beyond and (least < 0 or place[4] < least):
                            least = place[4]
                if tiers:
                    known[key[1]] = Holdings(least, tiers)
        return known

    def nodes_of(self, pool: str, team: int, tier: int) -> list[int]:
        """Where a team runs work of this tier or a lower one that may be evicted."""
        known = self._nodes.get((pool, team, tier))
        if known is None:
            line = self.state.filling.lines.get((pool, team), ())
            runs = (self.state.runs[place[3]] for place in line if place[5] and place[1] >= tier)
            known = self._nodes[pool, team, tier] = sorted({part.node for run in runs for part in run.parts})
        return known

    def most_served(self, pool: str, team: int, tier: int) -> int:
        """The largest size, by the tier's rule, among a team's runs of this tier that have had their turn; -1: none."""
        known = self._most_served.get((pool, team, tier))
        if known is None:
            line = self.state.filling.lines.get((pool, team), ())
            runs = (self._victims.get(place[3]) or self._victim(place[3]) for place in line if place[5])
            known = max((victim.size for victim in runs if victim.turn and victim.tier == tier), default=-1)
            self._most_served[pool, team, tier] = known
        return known

    # ---------------------------------------------------------------------------------------- by node
    def on_host(self, node: int) -> list[Victim]:
        """Those that may be evicted on a node, the cheapest first."""
        known = self._on_host.get(node)
        if known is None:
            filling, gone = self.state.filling, self.gone
            known = [
                self._victims.get(job) or self._victim(job)
                for job in filling.on_node.get(node, ())
                if job not in gone and filling.place_of(job)[5]
            ]
            known.sort(key=cheapest_first)
            self._on_host[node] = known
        return known

    def teams_on(self, node: int) -> dict[int, tuple[int, int]]:
        """(its lowest tier, as the highest rank; all its cards) of each team's work on a node that may be evicted."""
        known = self._teams.get(node)
        if known is None:
            known = self._teams[node] = {}
            filling, runs = self.state.filling, self.state.runs
            for job in filling.on_node.get(node, ()):
                place, run = filling.place_of(job), runs[job]
                if place[5]:
                    lowest, cards = known.get(run.ask.team, (-1, 0))
                    known[run.ask.team] = max(lowest, place[1]), cards + cards_on(run.parts, node)
        return known

    def _victim(self, job: int) -> Victim:
        run, place = self.state.runs[job], self.state.filling.place_of(job)
        ask, ran = run.ask, max(0, self.now - run.running_at) if run.running_at else 0
        tier, units = place[1], place[4]
        guaranteed = self.state.filling.is_guaranteed(job)
        lost_s, turn, saves = ran, False, STOPS
        if self._saves(run) and (self.policy.keeps_work or self._memory.get(run.parts[0].node, -1) >= ask.saved_mib):
            lost_s = self.suspend_cost_s(run)
            turn = ran >= max(self.policy.turn_s, self.policy.turn_factor * lost_s)
            saves = 0 if self.policy.keeps_work else ask.saved_mib
        size = size_of(self.policy, tier, left_s=ask.limit_s - ran, attained=ask.attained + units * ran)
        sort = (ask.team, units, guaranteed, tier)
        victim = Victim(
            run.job, ask.team, units, guaranteed, tier, units * lost_s, size, turn, run.parts, sort, saves, units * ran
        )
        self._victims[run.job] = victim
        return victim

    # ---------------------------------------------------------------------------------------- suspend
    def some_suspend(self) -> bool:
        """Is there any run that may be suspended? Where there is none, nobody can have a turn."""
        if self._some_suspend is None:
            allowed = self.policy.suspend
            self._some_suspend = allowed and any(run.ask.suspendable for run in self.state.runs.values())
        return self._some_suspend

    def suspend_cost_s(self, run: Run) -> int:
        """Suspend and resume, from the job's GPU memory at the measured speeds."""
        return self.policy.suspend_cost_s(run.ask.saved_mib)

    def suspended(self, victims: Iterable[Victim]) -> list[Victim]:
        """Those of the victims that are suspended: in order of id, while their node has memory for what they save."""
        chosen: list[Victim] = []
        room: dict[int, int] = {}
        for victim in sorted(victims):
            if victim.saves == STOPS:
                continue
            node = victim.parts[0].node
            left = (room[node] if node in room else self._room_to_save(node)) - victim.saves
            if left >= 0 or not victim.saves:
                room[node] = left
                chosen.append(victim)
        return chosen

    def _room_to_save(self, node: int) -> int:
        """Memory of a node that nobody uses now, whatever is claimed of it."""
        host = self.state.ledger.hosts.get(node)
        if host is None:
            return -1
        claimed = self.state.claims.keys() | {claim.job for claim in self.cycle.claims}
        return host.memory + sum(part.memory_mib for job, part in host.parts if job in claimed)

    def _saves(self, run: Run) -> bool:
        """One node, whole cards, a known size, and the job and the policy allow it."""
        if not (self.policy.suspend and run.ask.suspendable and run.state is JobState.RUNNING):
            return False
        if self.policy.keeps_work:
            return True
        whole = all(piece.whole for piece in run.parts[0].pieces)
        return len(run.parts) == 1 and bool(run.parts[0].pieces) and whole and run.ask.saved_mib > 0
