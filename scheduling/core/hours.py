"""Where the units of each pool are at this moment: the parts into which every GPU-hour splits, summing to all of it.

Added up over time by whoever keeps the ledger (a sample times the seconds that it lasted), so that charts, chargeback
and quota read the same numbers.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from scheduling.core import mig
from scheduling.core.cluster import Cluster, Gpu, Instance, Node, Piece
from scheduling.core.units import GPU_UNITS


@dataclass(frozen=True, slots=True)
class Split:
    """GPU units of one pool, each in exactly one part.

    used      held by a run                          idle      held by a run that does nothing with it
    reserved  claimed for a job whose victims have   stranded  no MIG instance can use it any more
              gone, or booked in the calendar
    draining  free on a node that is being emptied   broken    out of order, or free on a node that takes no work
                                                               otherwise
    free      the rest
    """

    used: int = 0
    idle: int = 0
    reserved: int = 0
    free: int = 0
    stranded: int = 0
    draining: int = 0
    broken: int = 0

    @property
    def total(self) -> int:
        return sum(getattr(self, part.name) for part in fields(self))

    def __add__(self, other: "Split") -> "Split":
        return Split(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


def split(cluster: Cluster, now: int, *, idle: Iterable[int] = (), recut: bool = True) -> dict[str, Split]:
    """By pool, for every pool that has cards. `idle`: jobs that, by what was measured, do nothing with their cards.
    `recut`: as in Policy."""
    doing_nothing = frozenset(idle)
    held: dict[int, list[tuple[int, Piece]]] = {}
    claimed: dict[int, list[Piece]] = {}
    for run in cluster.runs:
        for piece in (piece for part in run.parts for piece in part.pieces):
            held.setdefault(piece.gpu, []).append((run.job, piece))
    for claim in cluster.claims:
        for piece in (piece for part in claim.parts for piece in part.pieces):
            claimed.setdefault(piece.gpu, []).append(piece)
    booked = {node for b in cluster.bookings if b.starts <= now < b.ends for node in b.nodes}
    pools: dict[str, Split] = {}
    for node in cluster.nodes:
        if node.out_of_order:
            pools[node.pool] = pools.get(node.pool, Split()) + Split(broken=node.out_of_order * GPU_UNITS)
        for gpu in node.gpus:
            on_card = held.get(gpu.id, [])
            unused = sum(piece.units for job, piece in on_card if job in doing_nothing)
            used = sum(piece.units for _, piece in on_card)
            here, promised = [piece for _, piece in on_card], claimed.get(gpu.id, [])
            rest = _rest(node, gpu, here, promised, booked=node.id in booked, recut=recut)
            pools[node.pool] = pools.get(node.pool, Split()) + Split(used=used - unused, idle=unused) + rest
    return pools


def _rest(node: Node, gpu: Gpu, held: list[Piece], claimed: list[Piece], *, booked: bool, recut: bool) -> Split:
    """What of a card nobody holds."""
    left = GPU_UNITS - sum(piece.units for piece in held)
    if node.draining:
        return Split(draining=left)
    if not node.accepts:
        return Split(broken=left)
    reserved = left if booked else min(left, sum(piece.units for piece in claimed))
    cut = {Instance(piece.profile, piece.start) for piece in (*held, *claimed) if piece.profile}
    if gpu.stays_cut(recut=recut):
        lost = mig.uncovered(gpu.model, gpu.layout)
    elif mig.legal(gpu.model, cut):
        lost = mig.stranded(gpu.model, sorted(cut, key=lambda i: (i.start, i.profile)))
    else:
        lost = 0
    stranded = min(left - reserved, lost)
    return Split(reserved=reserved, stranded=stranded, free=left - reserved - stranded)
