from scheduling.models.allocation import Allocation
from scheduling.models.claim import Booking, Claim, ClaimedSlot
from scheduling.models.enrolment import Enrolment, JoinToken
from scheduling.models.job import Job, JobTransition
from scheduling.models.node import Gpu, GpuEvent, Node, NodeState, Pool, Slot, SlotKind
from scheduling.models.submission import Submission
from scheduling.models.usage import LoopRecord, Outlook, PastUse

__all__ = [
    "Allocation",
    "Booking",
    "Claim",
    "ClaimedSlot",
    "Enrolment",
    "Gpu",
    "GpuEvent",
    "Job",
    "JobTransition",
    "JoinToken",
    "LoopRecord",
    "Node",
    "NodeState",
    "Outlook",
    "PastUse",
    "Pool",
    "Slot",
    "SlotKind",
    "Submission",
]
