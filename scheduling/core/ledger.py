"""The what-if copy of a cluster: take, give back, checkpoint, roll back. The only mutable thing in core.

Nodes that offer the same are a Group, and each group keeps its nodes in buckets by how many cards are entirely free, so
that the tightest node is found without looking at the others. Nothing here knows about teams or limits; it keeps what
is physically held, by whom.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable

from scheduling.core.cluster import Gpu, Node, Part, Piece

#: what is held of one card: (job, piece). A claim holds under its job's id as a run does.
Card = list[tuple[int, Piece]]


class Group:
    """Nodes of one pool that are alike in all but their name and place: a filter asks once for all of them."""

    __slots__ = ("buckets", "by_cpu", "cards", "cpu_millis", "cuttable", "fixed", "islands", "labels", "memory_mib",
                 "pool", "size")  # fmt: skip

    def __init__(self, node: Node, *, recut: bool) -> None:
        self.pool, self.labels = node.pool, dict(node.labels)
        self.cpu_millis, self.memory_mib = node.cpu_millis, node.memory_mib
        #: those of its first node: all but the ids, and the layouts that may change, are the same on all of them
        self.cards: tuple[Gpu, ...] = node.gpus
        self.size = len(node.gpus)
        #: cards that may be cut anew, and cards that are cut for good, as bits
        self.cuttable = _bits(gpu.may_be_cut(recut=recut) for gpu in node.gpus)
        self.fixed = _bits(gpu.stays_cut(recut=recut) for gpu in node.gpus)
        #: the cards of each NVLink island, as bits
        numbers = sorted({gpu.island for gpu in node.gpus})
        self.islands = tuple(_bits(gpu.island == number for gpu in node.gpus) for number in numbers)
        self.buckets: list[list[int]] = [[] for _ in range(self.size + 1)]
        self.by_cpu: list[tuple[int, int]] | None = None


def _bits(flags: Iterable[bool]) -> int:
    """A bit for each place at which it is so."""
    return sum(1 << place for place, flag in enumerate(flags) if flag)


def _alike(node: Node, *, recut: bool) -> tuple[object, ...]:
    cards = tuple(
        (g.model, g.memory_mib, g.mig, g.island, g.layout if g.stays_cut(recut=recut) else ()) for g in node.gpus
    )
    return (node.pool, node.labels, node.cpu_millis, node.memory_mib, cards)


class Host:
    """One node as it is being filled. `free`: a bit for each card that nobody holds any part of.
    `moves` counts what was taken and given."""

    __slots__ = ("all", "cards", "cpu", "free", "group", "id", "memory", "moves", "node", "parts")

    def __init__(self, node: Node, group: Group) -> None:
        self.node, self.id, self.group = node, node.id, group
        self.all = self.free = (1 << len(node.gpus)) - 1
        self.cpu = node.cpu_millis - node.reserved_cpu_millis
        self.memory = node.memory_mib - node.reserved_memory_mib
        self.cards: list[Card] = [[] for _ in node.gpus]
        self.parts: list[tuple[int, Part]] = []
        self.moves = 0


class Ledger:
    """What is held and what is free, node by node. `recut`: as in Policy."""

    def __init__(self, *, recut: bool) -> None:
        self.recut = recut
        self.hosts: dict[int, Host] = {}
        self.groups: dict[tuple[object, ...], Group] = {}
        self.where: dict[int, tuple[Host, int]] = {}
        #: cards with something on them that is not a whole-card hold, or with a layout: (node id, place on it)
        self.cut: set[tuple[int, int]] = set()
        #: ids of nodes whose holdings changed, in order, since the log was begun; `era` counts how often it was
        self.changes: list[int] = []
        self.era = 0
        self._journal: list[tuple[bool, int, Part]] = []
        self._recording = 0

    def begin_log(self) -> None:
        """What has changed so far is no longer of interest, or nodes came and went: whoever reads the log looks at all
        nodes anew."""
        self.changes.clear()
        self.era += 1

    # -------------------------------------------------------------------------------------------- nodes
    def add_node(self, node: Node) -> None:
        self.begin_log()
        key = _alike(node, recut=self.recut)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(node, recut=self.recut)
        host = self.hosts[node.id] = Host(node, group)
        for place, gpu in enumerate(node.gpus):
            self.where[gpu.id] = (host, place)
            if gpu.layout:
                self.cut.add((node.id, place))
        self._enlist(host)

    def remove_node(self, node: int) -> None:
        self.begin_log()
        host = self.hosts.pop(node)
        self._delist(host)
        for place, gpu in enumerate(host.node.gpus):
            del self.where[gpu.id]
            self.cut.discard((node, place))
        for key, group in list(self.groups.items()):
            if group is host.group and not any(other.group is group for other in self.hosts.values()):
                del self.groups[key]

    def _enlist(self, host: Host) -> None:
        if host.node.accepts:
            insort(host.group.buckets[host.free.bit_count()], host.id)
            if host.group.by_cpu is not None:
                insort(host.group.by_cpu, (host.cpu, host.id))

    def _delist(self, host: Host) -> None:
        if host.node.accepts:
            bucket = host.group.buckets[host.free.bit_count()]
            del bucket[bisect_left(bucket, host.id)]
            by_cpu = host.group.by_cpu
            if by_cpu is not None:
                del by_cpu[bisect_left(by_cpu, (host.cpu, host.id))]

    def by_cpu(self, group: Group) -> list[tuple[int, int]]:
        """The group's accepting nodes by free CPU. Kept from the first question on: only work without GPUs asks it."""
        if group.by_cpu is None:
            ids = (i for bucket in group.buckets for i in bucket)
            group.by_cpu = sorted((self.hosts[i].cpu, i) for i in ids)
        return group.by_cpu

    # -------------------------------------------------------------------------------------------- take and give
    def take(self, job: int, part: Part) -> None:
        """Hold a part. The caller has seen that it is free, or that what is there is going away for this very job."""
        self._move(job, part, -1)
        if self._recording:
            self._journal.append((True, job, part))

    def give(self, job: int, part: Part) -> None:
        """What a job held is free again, as far as nobody else holds it too."""
        self._move(job, part, +1)
        if self._recording:
            self._journal.append((False, job, part))

    def _move(self, job: int, part: Part, sign: int) -> None:
        host = self.hosts.get(part.node)
        if host is None:
            return
        free = host.free
        self.changes.append(host.id)
        host.moves += 1
        if sign < 0:
            host.parts.append((job, part))
        else:
            host.parts.remove((job, part))
        for piece in part.pieces:
            place = self.where[piece.gpu][1]
            card = host.cards[place]
            if sign < 0:
                card.append((job, piece))
                free &= ~(1 << place)
                if not piece.whole:
                    self.cut.add((host.id, place))
            else:
                card.remove((job, piece))
                if not card:
                    free |= 1 << place
                    if not host.node.gpus[place].layout:
                        self.cut.discard((host.id, place))
        cpu = host.cpu + sign * part.cpu_millis
        if free == host.free and (host.group.by_cpu is None or cpu == host.cpu):
            host.cpu = cpu
            host.memory += sign * part.memory_mib
            return
        self._delist(host)
        host.free, host.cpu = free, cpu
        host.memory += sign * part.memory_mib
        self._enlist(host)

    # -------------------------------------------------------------------------------------------- what-if
    def checkpoint(self) -> int:
        """A mark to roll back to. What is taken after it is written down until it is rolled back or kept."""
        self._recording += 1
        return len(self._journal)

    def rollback(self, mark: int) -> None:
        """Undo everything since `mark`, newest first."""
        while len(self._journal) > mark:
            took, job, part = self._journal.pop()
            self._move(job, part, +1 if took else -1)
        self._recording -= 1

    def keep(self, mark: int) -> None:
        """What was done since `mark` stays, unless an outer checkpoint is rolled back."""
        self._recording -= 1
        if not self._recording:
            del self._journal[mark:]

    # -------------------------------------------------------------------------------------------- sums
    def accepting(self) -> Iterable[Host]:
        return (host for host in self.hosts.values() if host.node.accepts)
