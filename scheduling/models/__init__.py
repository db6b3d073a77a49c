from scheduling.models.allocation import Allocation
from scheduling.models.job import Job, JobTransition
from scheduling.models.node import Gpu, Node, NodeState, Pool, Slot, SlotKind

__all__ = ["Allocation", "Gpu", "Job", "JobTransition", "Node", "NodeState", "Pool", "Slot", "SlotKind"]
