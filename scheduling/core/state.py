"""A snapshot kept warm: the ledger, the accounts and the queue, moved by what happens instead of loaded anew.

`Planner` (plan.py) is this plus the decisions. Everything here answers to one rule: after any sequence of events the
state is the one that loading `snapshot()` would give, so that a warm plan equals a cold one.

What it holds together is in `books`; here is how it is loaded, told and moved.
"""

from collections.abc import Iterable
from dataclasses import replace

from scheduling.core.books import Books, Held
from scheduling.core.cluster import Ask, Booking, Claim, Cluster, Node, Past, Run, Shape, Team
from scheduling.core.decisions import Credit, Recut
from scheduling.core.policy import Policy
from scheduling.core.scores import Scores

__all__ = ["Held", "State"]


class State(Books):
    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.load(Cluster())

    # ---------------------------------------------------------------------------------------- load and dump
    def load(self, cluster: Cluster) -> None:
        """Start from a snapshot."""
        super().__init__(self.policy, cluster.pools)
        self.bookings: tuple[Booking, ...] = ()
        self.mixed(cluster.mix)
        for node in sorted(cluster.nodes, key=lambda node: node.id):
            self._add_node(node)
        self._grow_trees(cluster.teams, cluster.past)
        for run in cluster.runs:
            self._hold_run(run)
        for ask in sorted(cluster.asks, key=lambda ask: (ask.submitted, ask.job)):
            self.queue.add(ask, NOT_YET)
            self._keep_saved(ask.job)
        for claim in sorted(cluster.claims, key=lambda claim: claim.job):
            self._hold_claim(claim)
        self.bookings = tuple(sorted(cluster.bookings, key=lambda booking: booking.id))
        self.take_stock()

    def snapshot(self) -> Cluster:
        """The cluster as this state sees it, every row in the order of its id."""
        return Cluster(
            nodes=tuple(host.node for _, host in sorted(self.ledger.hosts.items())),
            asks=tuple(ask for _, ask in sorted(self.queue.asks.items())),
            runs=tuple(run for _, run in sorted(self.runs.items())),
            pools=tuple(pool for _, pool in sorted(self.pools.items())),
            teams=tuple(team for _, team in sorted(self.teams.items())),
            past=tuple(past for _, tree in sorted(self.trees.items()) for past in tree.memories()),
            claims=tuple(claim for _, claim in sorted(self.claims.items())),
            bookings=self.bookings,
            mix=self.mix,
        )

    # ---------------------------------------------------------------------------------------- the queue
    def submit(self, ask: Ask) -> None:
        """A job waits: new, requeued, or suspended (with `pinned`). Replaces an earlier ask of the same job."""
        self.queue.add(ask, NOT_YET)
        self._keep_saved(ask.job)

    def withdraw(self, job: int) -> None:
        """A waiting job left the queue without a start. A claim that it has goes with the next plan."""
        self.queue.remove(job)
        self._keep_saved(job)

    # ---------------------------------------------------------------------------------------- runs
    def started(self, run: Run, *, now: int) -> None:
        """A waiting job got its place: its ask and its claim go, the run holds from now on."""
        self.unclaimed(run.job, now=now)
        self.queue.remove(run.job)
        self._settle(self.pool_of(run), run.ask.team, run.ask.user, now)
        self._hold_run(run)

    def changed(self, run: Run, *, now: int) -> None:
        """A run moved to another state (RUNNING, SUSPENDING, STOPPING …); its parts are the same as before."""
        self.runs[run.job] = run = replace(run, pool=self.held[run.job].pool)
        self.filling.add(run, self.queue.tier_of(run.ask), self.held[run.job].units)
        self.bounds.touch(part.node for part in run.parts)
        self._keep_saved(run.job)

    def ended(self, job: int, *, now: int) -> None:
        """A run's parts are free (released, or suspended: then `submit` it with `pinned`)."""
        run = self.runs.pop(job)
        self.filling.remove(job)
        self._settle(run.pool, run.ask.team, run.ask.user, now)
        self._release(job, run.parts)
        self._keep_saved(job)

    def claimed(self, claim: Claim, *, now: int) -> None:
        """A claim of the last plan was stored."""
        self.unclaimed(claim.job, now=now)
        ask = self.queue.asks[claim.job]
        self._settle(claim.pool, ask.team, ask.user, now)
        for victim in claim.victims:
            gone = self.held.get(victim)
            if gone is not None:
                self._settle(gone.pool, gone.team, gone.user, now)
        self._hold_claim(claim)

    def credited(self, credit: Credit, *, now: int) -> None:
        """A credit of the last plan was stored: the past of these teams counts for less."""
        tree = self.tree(credit.pool)
        tree.settle_teams(tree.account(credit.teams[-1]), now, self.policy.half_life_s)
        for team in credit.teams:
            tree.account(team).mean -= credit.mean

    def unclaimed(self, job: int, *, now: int) -> None:
        """A claim expired, or its job left or was placed."""
        claim = self.claims.pop(job, None)
        if claim is None:
            return
        held = self.held[job]
        self._settle(held.pool, held.team, held.user, now)
        self._release(job, claim.parts)
        self._touch_runs(claim.victims)
        for victim in claim.victims:
            gone = self.held.get(victim)
            if gone is not None and gone.handed:
                self._settle(gone.pool, gone.team, gone.user, now)
                self.account(gone.pool, gone.team).add(gone.handed)
                gone.handed = 0

    # ---------------------------------------------------------------------------------------- what there is
    def node_changed(self, node: Node) -> None:
        """A node is new, or accepts work or not, or was cut or labelled anew. What runs on it stays."""
        parts = []
        if node.id in self.ledger.hosts:
            parts = list(self.ledger.hosts[node.id].parts)
            for job, part in parts:
                self.ledger.give(job, part)
            self.ledger.remove_node(node.id)
        self._add_node(node)
        for job, part in parts:
            self.ledger.take(job, part)

    def recut(self, recut: Recut) -> None:
        """A card was cut as a plan said."""
        node = self.ledger.hosts[recut.node].node
        gpus = []
        for gpu in node.gpus:
            if gpu.id == recut.gpu:
                left = [i for i in gpu.layout if i not in recut.destroy]
                layout = tuple(sorted((*left, *recut.create), key=lambda i: (i.start, i.profile)))
                gpu = replace(gpu, layout=layout)
            gpus.append(gpu)
        self.node_changed(replace(node, gpus=tuple(gpus)))

    def node_removed(self, node: int) -> None:
        """A node is gone for good. Runs that are still there end on their own."""
        self.ledger.remove_node(node)
        self.bounds.touch((node,))
        self.nodes_moved = True

    def teams_changed(self, teams: Iterable[Team]) -> None:
        """The whole team tree with its quotas, anew. What everybody holds and has held stays."""
        self._grow_trees(tuple(teams), tuple(past for tree in self.trees.values() for past in tree.memories()))
        for held in self.held.values():
            self._count(held, held.units, held.handed)
        self.nodes_moved = True

    def remembered(self, past: Iterable[Past]) -> None:
        """The past of everybody, anew: the means are as these rows say, and nothing where they say nothing."""
        for tree in self.trees.values():
            tree.forget()
        for row in past:
            self.tree(row.pool).remember(row)

    def booked(self, bookings: Iterable[Booking]) -> None:
        """All calendar reservations, anew."""
        self.bookings = tuple(sorted(bookings, key=lambda booking: booking.id))

    def mixed(self, mix: tuple[tuple[Shape, int], ...]) -> None:
        """What kinds of work come, counted anew. It matters only where shares of cards are asked for."""
        self.mix = mix
        self.search.scores = Scores(mix) if any(shape.thousandths for shape, _ in mix) else None


#: deadlines are looked at when a plan begins; until then none has passed
NOT_YET = -1
