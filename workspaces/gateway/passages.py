"""Every connection that is open right now, so that one whose right ends can be closed within seconds."""

from collections.abc import Callable
from dataclasses import dataclass

from workspaces.gateway.routes import Table


@dataclass(eq=False, slots=True)
class Passage:
    """One request or socket under way, and the right by which it was let in."""

    key: str  # sha256 of the cookie or API token
    workspace: str
    allocation: str
    close: Callable[[], object]


class Passages:
    """The live ones. Entering and leaving are hot; looking through all of them happens once per refresh."""

    def __init__(self) -> None:
        self._open: set[Passage] = set()
        self.enter = self._open.add
        self.leave = self._open.discard

    def __len__(self) -> int:
        return len(self._open)

    def sweep(self, table: Table) -> None:
        """Close whatever the table does not open any more."""
        for passage in list(self._open):
            if not table.still_open(key=passage.key, workspace=passage.workspace, allocation=passage.allocation):
                self._open.discard(passage)
                passage.close()
