"""What a waiting job is told, worked out anew from the snapshot and the plan, without anything of the core but its facts
about MIG: who holds what once the plan is carried out, what that leaves, and what each team may have.
"""

from functools import cached_property

from scheduling.core import mig
from scheduling.core.cluster import Instance
from scheduling.core.lifecycle import JobState

WHOLE = 42_000


class Aftermath:
    """The cluster once a plan is carried out: runs, what was placed, and what is claimed."""

    def __init__(self, before, outcome, policy, now):
        self.before, self.outcome, self.policy, self.now = before, outcome, policy, now
        self.asks = {ask.job: ask for ask in before.asks}
        self.runs = {run.job: run for run in before.runs}
        self.nodes = {node.id: node for node in before.nodes}
        self.teams = {team.id: team for team in before.teams}
        placed = {place.job for place in outcome.places}
        claims = [c for c in before.claims if c.job in self.asks and c.job not in placed and not self._lost(c)]
        self.claims = sorted(claims, key=lambda c: c.job) + list(outcome.claims)
        self.held = [(run.job, run.ask.team, part) for run in before.runs for part in run.parts]
        for decided in (*outcome.places, *self.claims):
            self.held += [(decided.job, self.asks[decided.job].team, part) for part in decided.parts]

    def _lost(self, claim):
        return claim.expires_at <= self.now and any(victim in self.runs for victim in claim.victims)

    # ------------------------------------------------------------------------------------------------ nodes
    def pieces(self, gpu):
        return [(team, piece) for _, team, part in self.held for piece in part.pieces if piece.gpu == gpu.id]

    def free_cards(self, node, shape):
        """Of one NVLink island, where all of it must lie in one: of the best of those that could hold it."""
        free = [gpu for gpu in node.gpus if self.suits(gpu, shape) and not self.pieces(gpu)]
        if shape.required != "island":
            return free
        large = {gpu.island for gpu in node.gpus if len(self._linked(node, gpu.island, shape)) >= self.whole(shape)}
        return max(([gpu for gpu in free if gpu.island == island] for island in sorted(large)), key=len, default=[])

    def whole(self, shape):
        """GPUs that must be free together: a replica's, or in an island all."""
        return shape.gpus * (shape.replicas if shape.required == "island" else 1)

    def _linked(self, node, island, shape):
        return [gpu for gpu in node.gpus if self.suits(gpu, shape) and gpu.island == island]

    def suits(self, gpu, shape):
        if shape.models and gpu.model not in shape.models:
            return False
        if shape.mig:
            return any(self._is(p, shape) and self._can_be(gpu, p) for p in mig.PROFILES[gpu.model].values())
        return gpu.memory_mib >= shape.gpu_memory_mib and (self._cuts(gpu) or not gpu.layout)

    def _cuts(self, gpu):
        """May it be cut anew?"""
        return gpu.mig and self.policy.recut

    def _can_be(self, gpu, profile):
        return self._cuts(gpu) or profile.name in {instance.profile for instance in gpu.layout}

    def _is(self, profile, shape):
        named = profile.name == shape.mig or (profile.name.split(".")[0] == shape.mig and "+" not in profile.name)
        return named and profile.memory_mib >= shape.gpu_memory_mib

    def cpu(self, node):
        return (
            node.cpu_millis - node.reserved_cpu_millis - sum(p.cpu_millis for _, _, p in self.held if p.node == node.id)
        )

    def memory(self, node):
        used = sum(p.memory_mib for _, _, p in self.held if p.node == node.id)
        return node.memory_mib - node.reserved_memory_mib - used - self.saved.get(node.id, 0)

    @cached_property
    def saved(self):
        """Memory of each node that suspended jobs keep, or are about to."""
        saved = {}
        suspended = {suspend.job for suspend in self.outcome.suspends}
        wishes = [(ask, ask.pinned) for ask in self.before.asks if ask.pinned]
        wishes += [
            (run.ask, run.parts) for run in self.before.runs
            if run.state in (JobState.SUSPENDING, JobState.RESUMING) or run.job in suspended
        ]  # fmt: skip
        for ask, parts in wishes:
            for part in parts:
                saved[part.node] = saved.get(part.node, 0) + (0 if self.policy.keeps_work else ask.saved_mib)
        return saved

    def spare(self, node):
        """(CPU, memory) for work without GPUs: each free card keeps its part."""
        free = sum(not self.pieces(gpu) for gpu in node.gpus)
        part = free * self.policy.cpu_kept_percent
        whole = 100 * max(1, len(node.gpus))
        return self.cpu(node) - node.cpu_millis * part // whole, self.memory(node) - node.memory_mib * part // whole

    def on_card(self, node, gpu, ask, more=()):
        """What the card could still be given: the units of a share, or the instances that may be added, as a list."""
        here = [*self.pieces(gpu), *more]
        shape = ask.shape
        if shape.thousandths:
            if any(team != ask.team or not piece.thousandths for team, piece in here):
                return None
            memory = gpu.memory_mib - sum(piece.memory_mib for _, piece in here)
            return 1000 - sum(piece.thousandths for _, piece in here), memory
        if any(not piece.profile for _, piece in here):
            return []
        held = [Instance(piece.profile, piece.start) for _, piece in here]
        return [
            (profile, start)
            for profile in mig.PROFILES[gpu.model].values() for start in profile.starts
            if mig.legal(gpu.model, (*held, Instance(profile.name, start)))
            and (self._cuts(gpu) or Instance(profile.name, start) in gpu.layout)
        ]  # fmt: skip

    def parts_of_cards(self, node, ask):
        """How many replicas' parts of cards the node has free, as far as cards go."""
        shape, count = ask.shape, 0
        for gpu in (gpu for gpu in node.gpus if self.suits(gpu, shape)):
            if shape.thousandths:
                left = self.on_card(node, gpu, ask)
                if left is not None:
                    need = shape.gpu_memory_mib or gpu.memory_mib * shape.thousandths // 1000
                    count += min(left[0] // shape.thousandths, left[1] // need)
            else:
                held = tuple(Instance(p.profile, p.start) for _, p in self.pieces(gpu))
                if all(piece.profile for _, piece in self.pieces(gpu)):
                    count += self._most(gpu, held, shape)
        return count

    def _most(self, gpu, held, shape):
        ways = [
            Instance(p.name, s) for p in mig.PROFILES[gpu.model].values() if self._is(p, shape) for s in p.starts
            if mig.legal(gpu.model, (*held, Instance(p.name, s)))
            and (self._cuts(gpu) or Instance(p.name, s) in gpu.layout)
        ]  # fmt: skip
        return max((1 + self._most(gpu, (*held, way), shape) for way in ways), default=0)

    def replicas(self, node, ask):
        """How many replicas the node holds now, at most as many as there are."""
        shape = ask.shape
        if not shape.wants_gpu:
            (cpu, memory), count = self.spare(node), shape.replicas
        else:
            cpu, memory = self.cpu(node), self.memory(node)
            count = len(self.free_cards(node, shape)) // shape.gpus if shape.gpus else self.parts_of_cards(node, ask)
        count = min(count, cpu // shape.cpu_millis if shape.cpu_millis else count)
        return max(0, min(count, memory // shape.memory_mib if shape.memory_mib else count, shape.replicas))

    def could_hold(self, node, shape):
        """One replica, on the empty node."""
        if (shape.pools and node.pool not in shape.pools) or node.cpu_millis < shape.cpu_millis:
            return False
        islands = {gpu.island for gpu in node.gpus}
        sets = [self._linked(node, island, shape) for island in islands]
        cards = max(map(len, sets), default=0) if shape.required == "island" else sum(map(len, sets))
        return node.memory_mib >= shape.memory_mib and cards >= (self.whole(shape) or shape.wants_gpu)

    def booked_for_others(self, node, team, at):
        return [
            b for b in self.before.bookings if node.id in b.nodes and b.starts <= at < b.ends and b.team not in self.line(team)
        ]  # fmt: skip

    # ------------------------------------------------------------------------------------------------ rights
    def line(self, team):
        """A team and those above it."""
        found = []
        while team in self.teams:
            found.append(team)
            team = self.teams[team].parent
        return found

    def units(self, part, pool):
        gpu_pool = any(node.gpus for node in self.before.nodes if node.pool == pool)
        return sum(piece.units for piece in part.pieces) if gpu_pool else part.cpu_millis

    def asked(self, ask, pool):
        shape = ask.shape
        if not any(node.gpus for node in self.before.nodes if node.pool == pool):
            return shape.cpu_millis * shape.replicas
        if shape.mig:
            cards = [g for n in self.before.nodes if n.pool == pool for g in n.gpus if self.suits(g, shape)]
            dearest = max(
                p.units for g in cards for p in mig.PROFILES[g.model].values()
                if self._is(p, shape) and self._can_be(g, p)
            )  # fmt: skip
            return dearest * shape.replicas
        return (shape.gpus * WHOLE + shape.thousandths * 42) * shape.replicas

    @cached_property
    def uses(self):
        """(pool, team, user, units, may it be evicted) of all that count, a claim's victims for less."""
        units = {
            job: [run.pool, sum(self.units(part, run.pool) for part in run.parts)] for job, run in self.runs.items()
        }
        rows = []
        for decided in self.outcome.places:
            ask = self.asks[decided.job]
            rows.append(
                (decided.pool, ask.team, ask.user, sum(self.units(p, decided.pool) for p in decided.parts), ask)
            )
        passed = {}
        for claim in self.claims:
            ask, size = self.asks[claim.job], sum(self.units(part, claim.pool) for part in claim.parts)
            rows.append((claim.pool, ask.team, ask.user, size, ask))
            for victim in claim.victims:
                if victim in units and units[victim][0] == claim.pool:
                    part = min(size, units[victim][1] - passed.get(victim, 0))
                    passed[victim] = passed.get(victim, 0) + part
                    size -= part
        for job, run in self.runs.items():
            rows.append((run.pool, run.ask.team, run.ask.user, units[job][1], run.ask))
            if passed.get(job):  # the whole of it is still its owner's and counts against what a member may use
                rows.append((run.pool, run.ask.team, None, -passed[job], None))
        return rows

    def quota(self, team, pool):
        return next((q for q in self.teams[team].quotas if q.pool == pool), None)

    def capacity(self, pool):
        """What accepts work, and what is held of the rest. Parts that no MIG instance can use any more are left out."""
        total = 0
        for node in (node for node in self.before.nodes if node.pool == pool):
            if not node.accepts:
                total += sum(self.units(p, pool) for job, _, p in self.stock_of if p.node == node.id)
                continue
            total += (
                len(node.gpus) * WHOLE if any(n.gpus for n in self.before.nodes if n.pool == pool) else node.cpu_millis
            )
            for gpu in (gpu for gpu in node.gpus if gpu.layout):
                held = sorted(
                    (Instance(piece.profile, piece.start) for _, _, part in self.stock_of for piece in part.pieces
                     if piece.gpu == gpu.id and piece.profile), key=lambda i: (i.start, i.profile))  # fmt: skip
                total -= mig.stranded(gpu.model, held) if self._cuts(gpu) else mig.uncovered(gpu.model, gpu.layout)
        return total

    @cached_property
    def stock_of(self):
        """What was held when the plan began: the pools' sizes are measured once."""
        claims = [c for c in self.before.claims if c.job in self.asks and not self._lost(c)]
        return [(job, 0, part) for job, run in self.runs.items() for part in run.parts] + [
            (claim.job, 0, part) for claim in claims for part in claim.parts
        ]

    def guarantees(self, pool):
        """team -> its guarantee; one that states less than its children have together has that."""
        total, owed = self.capacity(pool), {}

        def of(team):
            quota = self.quota(team, pool)
            own = quota.guaranteed + total * quota.percent_milli // 100_000 if quota else 0
            owed[team] = max(own, sum(of(child.id) for child in self.before.teams if child.parent == team))
            return owed[team]

        for team in (team.id for team in self.before.teams if not team.parent):
            of(team)
        return owed

    def room(self, team, pool):
        """What the tree may still give the team; team 0: the pool to anybody."""
        owed, total = self.guarantees(pool), self.capacity(pool)
        children = {t: [c.id for c in self.before.teams if c.parent == t] for t in (0, *self.teams)}

        def direct(team):
            return sum(
                units
                for at, of, _, units, _ in self.uses
                if at == pool and (of == team if team else of not in self.teams)
            )

        def kept(team):
            limit = self.quota(team, pool).lend_limit if self.quota(team, pool) else None
            own = owed[team] - sum(owed[c] for c in children[team]) + sum(lent(c) for c in children[team])
            return max(0, own - limit) if limit is not None else 0

        def stock(team):
            if not team:
                return total - sum(owed[c] for c in children[0]) + sum(lent(c) for c in children[0])
            return owed[team] - sum(owed[c] for c in children[team]) + sum(lent(c) for c in children[team])

        def lent(team):
            return stock(team) - kept(team)

        def drawn(team):
            return direct(team) + sum(max(0, drawn(c) - kept(c)) for c in children[team])

        def left(team):
            if not team:
                return stock(0) - drawn(0)
            handed = left(self.teams[team].parent)
            limit = self.quota(team, pool).borrow_limit if self.quota(team, pool) else None
            if limit is not None:
                handed = min(handed, lent(team) - max(0, drawn(team) - kept(team)) + limit)
            return handed + max(0, kept(team) - drawn(team))

        return left(team if team in self.teams else 0)

    def firm(self, team, pool):
        return sum(
            units for at, of, user, units, ask in self.uses
            if at == pool and ask is not None and not ask.preemptible and team in self.line(of)
        )  # fmt: skip

    def users(self, team, pool, user):
        return sum(
            u for at, of, who, u, ask in self.uses if at == pool and who == user and ask and team in self.line(of)
        )

    def missing(self, ask, pool):
        """(code, numbers that fit it) for each level that refuses, the first kind of right that is missing only."""
        asked, line = self.asked(ask, pool), self.line(ask.team)
        owed = self.guarantees(pool)
        promised = any(q.guaranteed or q.percent_milli for t in self.before.teams for q in t.quotas if q.pool == pool)
        if not ask.preemptible and promised:
            rows = [{"asked": asked, "used": self.firm(team, pool), "limit": owed[team]} for team in line]
            if found := [row for row in rows if row["used"] + asked > row["limit"]]:
                return "guarantee_used", found
        caps = [(team, self.quota(team, pool)) for team in line]
        rows = [
            {"asked": asked, "used": self.users(team, pool, ask.user), "limit": quota.user_limit}
            for team, quota in caps if quota and quota.user_limit is not None
        ]  # fmt: skip
        if found := [row for row in rows if row["used"] + asked > row["limit"]]:
            return "user_limit", found
        left = self.room(ask.team, pool)
        if asked > left:
            full = asked > self.room(0, pool)
            rest = {"left": left} if left >= 0 else {"over": -left}
            return "pool_full" if full else "team_limit", [{"asked": asked} | rest]
        return None, []
