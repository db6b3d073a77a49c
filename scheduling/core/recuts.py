"""Which cards must be cut anew for the places of this plan: chosen from what the queue needs, on parts nobody holds."""

from scheduling.core import mig
from scheduling.core.cluster import Instance
from scheduling.core.decisions import Place, Recut
from scheduling.core.state import State


def recuts_for(state: State, places: list[Place]) -> tuple[Recut, ...]:
    """One Recut per card whose layout the plan's places do not find as they need it. Call it before they are put
    back."""
    touched: dict[int, int] = {}
    for place in places:
        for part in place.parts:
            for piece in part.pieces:
                touched[piece.gpu] = part.node
    recuts = []
    for gpu_id, node in sorted(touched.items()):
        host, index = state.ledger.where[gpu_id]
        gpu = host.node.gpus[index]
        held = tuple(Instance(piece.profile, piece.start) for _, piece in host.cards[index] if piece.profile)
        missing = tuple(sorted((i for i in held if i not in gpu.layout), key=lambda i: (i.start, i.profile)))
        if not held:
            destroy = gpu.layout  # a whole card, or a share, of one that was cut
        else:
            destroy = _in_the_way(gpu.model, gpu.layout, held, missing)
        if destroy or missing:
            recuts.append(Recut(gpu_id, node, destroy, missing))
    return tuple(recuts)


def _in_the_way(
    model: str, layout: tuple[Instance, ...], held: tuple[Instance, ...], missing: tuple[Instance, ...]
) -> tuple[Instance, ...]:
    """The free instances that must go for all the missing ones together."""
    gone: list[Instance] = []
    for new in missing:
        rest = tuple(i for i in layout if i not in gone)
        others = tuple(i for i in held if i != new)
        gone += mig.recut(model, rest, others, new) or ()
    return tuple(gone)
