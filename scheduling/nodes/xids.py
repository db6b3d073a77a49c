"""What NVIDIA's driver means by its Xid numbers, as far as it decides what becomes of a card and of the work on it.

Classes follow the "immediate action" of NVIDIA's Xid catalog (docs.nvidia.com/deploy/xid-errors): restart the program,
reset the GPU, restart the machine. The programs' own errors are those that NVIDIA's Kubernetes device plugin leaves out
of its health check, too. Pure.
"""

from enum import StrEnum


class XidClass(StrEnum):
    """What an Xid asks for."""

    NEWS = "news"  # it says something about another error; nothing follows from it alone
    PROGRAM = "program"  # the program's own error: the card is well, and only the job is marked
    CONTAINED = "contained"  # the card has to be reset, though not at once: what runs may end, nothing new is placed
    RESET = "reset"  # the card has to be reset before anybody can rely on it
    RESTART = "restart"  # the machine has to be restarted


_N, _P, _C, _R, _M = XidClass.NEWS, XidClass.PROGRAM, XidClass.CONTAINED, XidClass.RESET, XidClass.RESTART

XIDS: dict[int, tuple[XidClass, str]] = {
    8: (_P, "a program that kept the GPU for too long"),
    11: (_P, "a broken stream of commands"),
    13: (_P, "an error in a program's kernel"),
    31: (_P, "a program that reached for memory that is not its own"),
    32: (_P, "a broken stream of commands"),
    43: (_P, "a program that had to be stopped"),
    45: (_N, "the clearing up after an earlier error"),
    46: (_R, "a GPU that stopped processing"),
    48: (_R, "an uncorrectable memory error"),
    61: (_R, "a halted controller inside the GPU"),
    62: (_R, "a halted controller inside the GPU"),
    63: (_C, "a row of memory that will be replaced at the next reset"),
    64: (_R, "a row of memory that could not be replaced"),
    66: (_P, "a program that drove the GPU in a way it does not allow"),
    68: (_P, "an error in video decoding"),
    69: (_P, "an error in a program's commands"),
    74: (_R, "a broken NVLink"),
    79: (_M, "a GPU that fell off the bus"),
    92: (_C, "many corrected memory errors"),
    94: (_C, "an uncorrectable memory error that met one program only"),
    95: (_R, "an uncorrectable memory error that may have met any program"),
    109: (_P, "a program that did not let others on in time"),
    110: (_R, "a fault in the GPU's protection"),
    119: (_R, "a GPU whose firmware does not answer"),
    120: (_R, "a GPU whose firmware broke down"),
    136: (_R, "an NVLink that could not be trained"),
    140: (_R, "an uncorrectable memory error"),
    143: (_R, "a GPU that could not be started"),
    # The driver says which recovery it now wants; that is read as a fact of its own, see `health.Health.recovery`.
    154: (_N, "a change of what the driver wants done"),
}
#: nobody knows what it means here, so nothing new is placed until somebody has looked
UNKNOWN = (XidClass.CONTAINED, "an error that Berth does not know")


def class_of(number: int) -> XidClass:
    return XIDS.get(number, UNKNOWN)[0]


def words_for(number: int) -> str:
    """What happened, to stand after "it reported Xid N,"."""
    return XIDS.get(number, UNKNOWN)[1]
