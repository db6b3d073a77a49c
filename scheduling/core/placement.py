"""Which slots: all replicas or none, each on the node that it fits most tightly, so that large holes survive."""

from scheduling.core.cluster import Ask, Node
from scheduling.core.decisions import Part
from scheduling.core.ledger import Ledger


def could_ever_fit(ask: Ask, node: Node) -> bool:
    """Would one replica fit on the node if nothing else ran there?"""
    return ask.gpus <= len(node.slots) and ask.cpu_millis <= node.cpu_millis and ask.memory_mib <= node.memory_mib


def fits_now(ask: Ask, node: Node, ledger: Ledger) -> bool:
    return (
        ask.gpus <= ledger.free_slots(node.id)
        and ask.cpu_millis <= ledger.free_cpu(node.id)
        and ask.memory_mib <= ledger.free_memory(node.id)
    )


def _tightness(ask: Ask, node: Node, ledger: Ledger) -> tuple[int, int, int, int]:
    """Smallest first: leave the fewest GPUs, then the least memory and CPU, over; ties end in the id."""
    return (
        ledger.free_slots(node.id) - ask.gpus,
        ledger.free_memory(node.id) - ask.memory_mib,
        ledger.free_cpu(node.id) - ask.cpu_millis,
        node.id,
    )


def place(ask: Ask, ledger: Ledger) -> tuple[Part, ...] | None:
    """Take slots for every replica of `ask` from the ledger, or take nothing and answer None."""
    mark = ledger.checkpoint()
    parts: list[Part] = []
    for _ in range(ask.replicas):
        candidates = [node for node in ledger.accepting() if fits_now(ask, node, ledger)]
        if not candidates:
            ledger.rollback(mark)
            return None
        best = min(candidates, key=lambda node: _tightness(ask, node, ledger))
        parts.append(ledger.take(best.id, gpus=ask.gpus, cpu_millis=ask.cpu_millis, memory_mib=ask.memory_mib))
    return tuple(parts)
