"""Turns: because a suspended job loses no work, a tier may let suspendable jobs share whole cards, least service
first."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduling.core.plan import Cycle


def rotate(cycle: "Cycle") -> None:
    """Nothing yet."""
