"""The what-if copy of a cluster: take, checkpoint, roll back. The only mutable thing in core; it never leaves plan()."""

from scheduling.core.cluster import Cluster, Node
from scheduling.core.decisions import Part


class Ledger:
    """What is still free on each node after the decisions so far."""

    def __init__(self, cluster: Cluster) -> None:
        self._nodes = {node.id: node for node in cluster.nodes}
        self._slots = {node.id: [s.id for s in node.slots if not s.held] for node in cluster.nodes}
        self._cpu = {node.id: node.free_cpu_millis for node in cluster.nodes}
        self._memory = {node.id: node.free_memory_mib for node in cluster.nodes}
        self._journal: list[tuple[Part, int, int]] = []

    def accepting(self) -> list[Node]:
        return [node for node in self._nodes.values() if node.accepts]

    def free_slots(self, node: int) -> int:
        return len(self._slots[node])

    def free_cpu(self, node: int) -> int:
        return self._cpu[node]

    def free_memory(self, node: int) -> int:
        return self._memory[node]

    def take(self, node: int, *, gpus: int, cpu_millis: int, memory_mib: int) -> Part:
        """Hold the first `gpus` free slots of the node, with CPU and memory. The caller has seen that they are free."""
        slots = self._slots[node]
        assert len(slots) >= gpus and self._cpu[node] >= cpu_millis and self._memory[node] >= memory_mib
        part = Part(node=node, slots=tuple(slots[:gpus]))
        del slots[:gpus]
        self._cpu[node] -= cpu_millis
        self._memory[node] -= memory_mib
        self._journal.append((part, cpu_millis, memory_mib))
        return part

    def checkpoint(self) -> int:
        return len(self._journal)

    def rollback(self, mark: int) -> None:
        """Undo everything taken since `mark`, newest first."""
        while len(self._journal) > mark:
            part, cpu_millis, memory_mib = self._journal.pop()
            self._slots[part.node][:0] = part.slots
            self._cpu[part.node] += cpu_millis
            self._memory[part.node] += memory_mib
