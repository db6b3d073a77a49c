"""What there is, what it costs, and who holds it: the ledger of the nodes, the accounts of the teams, and the sums that
tie them together. `State` moves them by what happens.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from scheduling.core import mig
from scheduling.core.bounds import Bounds
from scheduling.core.cluster import Ask, Claim, Instance, Node, Part, Past, Pool, Run, Shape, Team
from scheduling.core.filling import Filling
from scheduling.core.ledger import Host, Ledger
from scheduling.core.lifecycle import JobState
from scheduling.core.placement import Search
from scheduling.core.places.cards import bits
from scheduling.core.places.filters import profiles_of
from scheduling.core.policy import Policy
from scheduling.core.promises import NEVER, Promises
from scheduling.core.queue import Queue
from scheduling.core.quota import Account, Tree, children_first
from scheduling.core.units import GPU_UNITS, charge, fraction

#: in these states a run's GPU memory lies in its node's memory, or is about to
SAVING = frozenset({JobState.SUSPENDING, JobState.RESUMING})


def saved_parts(parts: tuple[Part, ...], saved_mib: int) -> tuple[Part, ...]:
    """What a job's GPU memory takes of its nodes' memory once it is suspended."""
    return tuple(Part(part.node, (), 0, saved_mib) for part in parts)


class Held:
    """What one job costs whom: written when it gets its place or its claim. `handed`: units that a claim has taken
    over."""

    __slots__ = ("handed", "pool", "preemptible", "team", "units", "user")

    def __init__(self, pool: str, team: int, user: int, units: int, preemptible: bool) -> None:
        self.pool, self.team, self.user, self.units, self.preemptible = pool, team, user, units, preemptible
        self.handed = 0


class Books:
    """Empty books; `State.load` fills them."""

    def __init__(self, policy: Policy, pools: tuple[Pool, ...]) -> None:
        self.policy = policy
        self.ledger = Ledger(recut=policy.recut)
        self.promises = Promises(self.ledger)
        self.team_of: dict[int, int] = {}
        self.search = Search(self.ledger, self.promises, policy, self.team_of)
        self.queue = Queue(policy)
        self.pools: dict[str, Pool] = {pool.name: pool for pool in pools}
        self.gpu_pools: set[str] = set()
        self.teams: dict[int, Team] = {}
        self.trees: dict[str, Tree] = {}
        self.runs: dict[int, Run] = {}
        self.filling = Filling()
        self.bounds = Bounds(self.ledger)
        self.held: dict[int, Held] = {}
        self.claims: dict[int, Claim] = {}
        self.saved: dict[int, tuple[Part, ...]] = {}
        self.nodes_moved = self.instances_moved = True
        self.teams_known = False
        #: (node id, place of the card) -> units that are stranded there, as stock was last taken
        self.stranded: dict[tuple[int, int], int] = {}

    # ---------------------------------------------------------------------------------------- sums
    def account(self, pool: str, team: int) -> Account:
        return self.tree(pool).account(team)

    def tree(self, pool: str) -> Tree:
        tree = self.trees.get(pool)
        if tree is None:
            tree = self.trees[pool] = Tree(pool, self.teams, self._children_first)
            self.trees = dict(sorted(self.trees.items()))
            self.nodes_moved = True
        return tree

    def take_stock(self) -> None:
        """Each pool's capacity: nodes that accept work, and what is held on those that do not. Kinds learn where they
        may go. Done once after nodes have changed."""
        still = not self.nodes_moved and not self.instances_moved
        if still and all(host.node.accepts for host in self.ledger.hosts.values()):
            return
        capacity = dict.fromkeys(self.trees, 0)
        self.stranded.clear()
        for host in self.ledger.hosts.values():
            gpu_pool = host.node.pool in self.gpu_pools
            if host.node.accepts:
                units = len(host.node.gpus) * GPU_UNITS if gpu_pool else host.node.cpu_millis
                for place, gpu in enumerate(host.node.gpus):
                    if gpu.layout and (stranded := self._stranded(host, place, frozenset())):
                        self.stranded[host.id, place] = stranded
                        units -= stranded
            else:
                units = sum(self.units_of(part, host.node.pool) for job, part in host.parts if job > 0)
            capacity[host.node.pool] += units
        for pool, tree in self.trees.items():
            tree.set_capacity(capacity[pool])
        if self.nodes_moved:
            self.search.forget_options()
            self.queue.costs_moved()
        self.nodes_moved = self.instances_moved = False

    def _stranded(self, host: Host, place: int, without: Collection[int]) -> int:
        """Units of a card that nobody could use beside the instances that jobs other than these hold."""
        held = {(piece.start, piece.profile) for job, piece in host.cards[place]
                if piece.profile and job not in without}  # fmt: skip
        gpu = host.node.gpus[place]
        if host.group.fixed >> place & 1:
            return mig.uncovered(gpu.model, gpu.layout)
        return mig.stranded(gpu.model, tuple(Instance(profile, start) for start, profile in sorted(held)))

    def comes_back(self, jobs: Collection[int], parts: Iterable[Part]) -> int:
        """By how many units the capacity of the pool grows once these jobs have left these parts: what was stranded
        beside their instances can be used again."""
        if not self.stranded:
            return 0
        cards = {piece.gpu for part in parts for piece in part.pieces if piece.profile}
        more = 0
        for gpu in cards & self.ledger.where.keys():  # a gang may still have a part on a node that has left
            host, place = self.ledger.where[gpu]
            if stranded := self.stranded.get((host.id, place), 0):
                more += max(0, stranded - self._stranded(host, place, jobs))
        return more

    def units_of(self, part: Part, pool: str) -> int:
        """What a part costs."""
        units = part.pieces[0].units if len(part.pieces) == 1 else sum(piece.units for piece in part.pieces)
        return self._charge(pool, units, part.cpu_millis, part.memory_mib)

    def _charge(self, pool: str, gpu_units: int, cpu_millis: int, memory_mib: int) -> int:
        known = self.pools.get(pool)
        reference = (
            (known.reference_gpus, known.reference_cpu_millis, known.reference_memory_mib) if known else (0, 0, 0)
        )
        return charge(
            gpu_units=gpu_units, cpu_millis=cpu_millis, memory_mib=memory_mib, reference=reference,
            gpu_pool=pool in self.gpu_pools,
        )  # fmt: skip

    def costs_of(self, shape: Shape) -> tuple[tuple[str, int], ...]:
        """(pool, units of the whole gang) for each pool that has the right kind of node, the liked ones first."""
        pools = shape.pools or sorted(self.trees, key=lambda name: (name in self.gpu_pools, name))
        costs = []
        for pool in pools:
            if pool in self.trees and self.search.options(shape, pool):
                units = self._charge(pool, 0, shape.cpu_millis, shape.memory_mib)
                if shape.wants_gpu:
                    units = max(units, self._gpu_units(shape, pool))
                costs.append((pool, units * shape.replicas))
        if shape.models and not shape.pools:
            costs.sort(key=lambda cost: self._best_rank(shape, cost[0]))
        return tuple(costs)

    def _best_rank(self, shape: Shape, pool: str) -> int:
        """How far up its list the best model stands that this pool has for it."""
        best = self.search.options(shape, pool)[0]
        models = {gpu.model for group, cards in best for place, gpu in enumerate(group.cards) if cards >> place & 1}
        return min(shape.models.index(model) for model in models)

    def _gpu_units(self, shape: Shape, pool: str) -> int:
        """GPU units of one replica: for a MIG ask, of the dearest profile that it may get."""
        if shape.gpus:
            return shape.gpus * GPU_UNITS
        if shape.thousandths:
            return fraction(shape.thousandths)
        options = (option for groups in self.search.options(shape, pool) for option in groups)
        return max(
            profile.units
            for group, cards in options for place in bits(cards) for profile in profiles_of(group, place, shape)
        )  # fmt: skip

    def evictable_from(self, ask: Ask, now: int) -> int:
        """When a job that starts now may first be evicted for somebody outside its team: past its minimum runtime."""
        if not ask.preemptible:
            return NEVER
        team = self.teams.get(ask.team)
        return now + max(ask.min_runtime_s, (team.min_runtime_s if team else 0) or self.policy.min_runtime_s)

    # ---------------------------------------------------------------------------------------- bookkeeping
    def _add_node(self, node: Node) -> None:
        self.ledger.add_node(node)
        self.bounds.touch((node.id,))
        if node.gpus:
            self.gpu_pools.add(node.pool)
        if node.pool not in self.trees and self.teams_known:
            self.tree(node.pool)
        self.nodes_moved = True

    def _grow_trees(self, teams: tuple[Team, ...], past: tuple[Past, ...]) -> None:
        self.teams = {team.id: team for team in teams}
        self._children_first, self.teams_known = children_first(self.teams), True
        names = {host.node.pool for host in self.ledger.hosts.values()} | {q.pool for t in teams for q in t.quotas}
        self.trees = {name: Tree(name, self.teams, self._children_first) for name in sorted(names)}
        for row in past:
            self.tree(row.pool).remember(row)

    def _hold_run(self, run: Run) -> None:
        ask = run.ask
        pool = self.pool_of(run)
        self.runs[run.job] = run = run if run.pool else replace(run, pool=pool)
        units = sum(self.units_of(part, pool) for part in run.parts)
        self.filling.add(run, self.queue.tier_of(ask), units)
        self._hold(run.job, Held(pool, ask.team, ask.user, units, ask.preemptible), run.parts)
        self._keep_saved(run.job)

    def _keep_saved(self, job: int) -> None:
        """While a job is suspended, or on its way there or back, what its cards held lies in its node's memory. It is
        held under the job's number with a minus: it is no use of the team's, and has no end of its own."""
        for part in self.saved.pop(job, ()):
            self.ledger.give(-job, part)
        run, ask = self.runs.get(job), self.queue.asks.get(job)
        parts = run.parts if run is not None and run.state in SAVING else ask.pinned if ask is not None else ()
        wish = run.ask if run is not None else ask
        if parts and wish is not None and wish.saved_mib and not self.policy.keeps_work:
            self.saved[job] = saved_parts(parts, wish.saved_mib)
            for part in self.saved[job]:
                self.ledger.take(-job, part)

    def _hold_claim(self, claim: Claim) -> None:
        ask = self.queue.asks.get(claim.job)
        self.claims[claim.job] = claim
        team, user = (ask.team, ask.user) if ask else (0, 0)
        units = sum(self.units_of(part, claim.pool) for part in claim.parts)
        self._hold(claim.job, Held(claim.pool, team, user, units, ask.preemptible if ask else True), claim.parts)
        self.hand_over(units, claim.pool, claim.victims)
        self._touch_runs(claim.victims)

    def _touch_runs(self, jobs: tuple[int, ...]) -> None:
        """They are victims now, or are so no more."""
        self.bounds.touch(part.node for job in jobs if job in self.runs for part in self.runs[job].parts)

    def hand_over(self, units: int, pool: str, victims: tuple[int, ...]) -> list[tuple[Held, int]]:
        """What passes from victims to a claim is the beneficiary's use from now on, and must not count twice."""
        passed = []
        for victim in victims:
            gone = self.held.get(victim)
            if gone is not None and gone.pool == pool and units:
                part = min(units, gone.units - gone.handed)
                gone.handed += part
                units -= part
                self.account(gone.pool, gone.team).add(-part)
                passed.append((gone, part))
        return passed

    def charge(self, job: int, held: Held) -> None:
        """Count what a job holds from now on; the ledger is told by whoever took the parts."""
        self.held[job] = held
        self.team_of[job] = held.team
        self._count(held, held.units, 0)

    def discharge(self, job: int) -> None:
        held = self.held.pop(job)
        self.team_of.pop(job, None)
        self._count(held, -held.units, -held.handed)

    def _hold(self, job: int, held: Held, parts: tuple[Part, ...]) -> None:
        self.charge(job, held)
        self._note(parts)
        for part in parts:
            self.ledger.take(job, part)

    def _release(self, job: int, parts: tuple[Part, ...]) -> None:
        self.discharge(job)
        self._note(parts)
        for part in parts:
            self.ledger.give(job, part)

    def _note(self, parts: tuple[Part, ...]) -> None:
        """What is held has changed there. Which instances are held decides what of their card is stranded."""
        self.bounds.touch(part.node for part in parts)
        if any(piece.profile for part in parts for piece in part.pieces):
            self.instances_moved = True

    def _count(self, held: Held, units: int, handed: int) -> None:
        account = self.account(held.pool, held.team)
        account.add(units - handed)
        account.count(held.user, units, firm=not held.preemptible)

    def _settle(self, pool: str, team: int, user: int, now: int) -> None:
        tree = self.tree(pool)
        tree.settle(tree.account(team), user, now, self.policy.half_life_s)

    def pool_of(self, run: Run) -> str:
        """The pool of the node that its first part is on, where the run itself does not say."""
        host = self.ledger.hosts.get(run.parts[0].node) if run.parts else None
        return run.pool or (host.node.pool if host else "")
