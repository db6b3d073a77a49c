"""The data path from a gateway to a container: the gateway asks for a stream, the node's agent dials.

In one process the dial is direct. Agents elsewhere keep idle TLS connections out to each gateway (`lines.py` there,
`parking.py` in the gateway), behind the same protocol, so the gateway never learns the difference.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol


class NotReachable(Exception):
    """The allocation is not on this node, or its server does not accept connections."""


class Forwarder(Protocol):
    async def dial(self, *, node: str, allocation: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """One fresh byte stream to the allocation's server. Raises NotReachable."""

    def address(self, *, node: str, allocation: str) -> tuple[str, int] | None:
        """Host and port for a direct connection from this process, or None when only `dial` reaches it."""


class Dialler(Protocol):
    async def dial(self, *, node: str, allocation: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]: ...


class NodesForwarder:
    """A cluster's gateway: nodes of this process are dialled directly, all others through the lines of their agents.

    here: the table of addresses of each node of this process, see DirectForwarder. far: reaches the others.
    """

    def __init__(self, *, here: Mapping[str, Callable[[str], tuple[str, int] | None]], far: Dialler) -> None:
        self._here = {node: DirectForwarder(lookup) for node, lookup in here.items()}
        self._far = far

    def address(self, *, node: str, allocation: str) -> tuple[str, int] | None:
        return self._here[node].address(node=node, allocation=allocation) if node in self._here else None

    async def dial(self, *, node: str, allocation: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await self._here.get(node, self._far).dial(node=node, allocation=allocation)


class DirectForwarder:
    """One process: the agent's own table of addresses, dialled from here.

    `lookup(allocation)` answers the (host, port) of a ready allocation of this node, or None. Dialling only what the
    table holds is the check that the allocation is our own.
    """

    def __init__(self, lookup: Callable[[str], tuple[str, int] | None]) -> None:
        self._lookup = lookup

    def address(self, *, node: str, allocation: str) -> tuple[str, int] | None:
        return self._lookup(allocation)

    async def dial(self, *, node: str, allocation: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        target = self._lookup(allocation)
        if target is None:
            raise NotReachable(allocation)
        try:
            return await asyncio.open_connection(*target)
        except OSError as error:
            raise NotReachable(f"{allocation}: {error}") from error
