"""The runs of one cycle that may be evicted at all, and what would be lost with each: looked up where they are needed.

Everything here is as it was when the cycle began, whatever has been decided since; only those that fall drop out.
"""

from typing import TYPE_CHECKING, NamedTuple

from scheduling.core.cluster import Part, Run
from scheduling.core.lifecycle import JobState
from scheduling.core.queue import size_of

if TYPE_CHECKING:
    from scheduling.core.plan import Cycle


class Victim(NamedTuple):
    """A run that might go. `guaranteed`: it lies within its team's guarantee. `lost`: unit-seconds thrown away with it.
    `turn`: it may be suspended and has had its turn; `size`: by the size rule of its tier. `sort`: (team, units,
    guaranteed, tier): those of other teams that agree in it may be taken by the same jobs."""

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


def cards_on(parts: tuple[Part, ...], node: int) -> int:
    """How many cards, or pieces of cards, these hold there."""
    if len(parts) == 1:
        return len(parts[0].pieces)
    return sum(len(part.pieces) for part in parts if part.node == node)


class Holdings(NamedTuple):
    """What one team holds in one pool that may be evicted: units of its smallest borrowed run (-1: none), and the tiers
    of all of them."""

    least_borrowed: int
    tiers: set[int]


class Candidates:
    """Whose runs might go, by team and by node."""

    def __init__(self, cycle: "Cycle") -> None:
        self.state, self.now, self.policy = cycle.state, cycle.now, cycle.policy
        #: runs that are going already: victims of this plan, and of claims that others have
        self.gone = {victim for claim in self.state.claims.values() for victim in claim.victims}
        self._memory = {host.id: host.memory for host in self.state.ledger.hosts.values()}
        self._victims: dict[int, Victim] = {}
        self._on_host: dict[int, list[Victim]] = {}
        self._teams: dict[int, dict[int, tuple[int, int]]] = {}
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
                beyond, least, tiers = self.state.filling.beyond[key], -1, set()
                for place in self.state.filling.lines[key]:
                    if place[5]:
                        tiers.add(place[1])
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
            known.sort(key=lambda v: (v.guaranteed, -v.tier, v.lost, v.job))
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
        lost_s, turn = ran, False
        if self._saves(run) and (self.policy.keeps_work or self._memory.get(run.parts[0].node, -1) >= ask.saved_mib):
            lost_s = self.suspend_cost_s(run)
            turn = ran >= max(self.policy.turn_s, self.policy.turn_factor * lost_s)
        size = size_of(self.policy, tier, left_s=ask.limit_s - ran, attained=ask.attained + units * ran)
        sort = (ask.team, units, guaranteed, tier)
        victim = Victim(run.job, ask.team, units, guaranteed, tier, units * lost_s, size, turn, run.parts, sort)
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

    def can_suspend(self, run: Run) -> bool:
        """May it be suspended, and is there room now for the saved bytes in the node's memory?"""
        if not self._saves(run) or self.policy.keeps_work:
            return self._saves(run)
        host = self.state.ledger.hosts.get(run.parts[0].node)
        return host is not None and host.memory >= run.ask.saved_mib

    def _saves(self, run: Run) -> bool:
        """One node, whole cards, a known size, and the job and the policy allow it."""
        if not (self.policy.suspend and run.ask.suspendable and run.state is JobState.RUNNING):
            return False
        if self.policy.keeps_work:
            return True
        whole = all(piece.whole for piece in run.parts[0].pieces)
        return len(run.parts) == 1 and bool(run.parts[0].pieces) and whole and run.ask.saved_mib > 0
