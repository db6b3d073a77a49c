"""Which drivers must keep the contract. A new driver adds its kit here, and nothing else."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

import pytest

from tests.contract.docker_kit import docker_kit
from tests.contract.kit import Kit
from tests.contract.process_kit import process_kit
from tests.contract.simulated_kit import simulated_kit

KITS: dict[str, Callable[[], AbstractContextManager[Kit]]] = {
    "simulated": simulated_kit,
    "process": process_kit,
    "process-ordinary": partial(process_kit, ordinary=True),
}


@pytest.fixture(params=[*KITS, pytest.param("docker", marks=pytest.mark.docker)])
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """One driver with a place of its own, emptied afterwards."""
    make = KITS.get(request.param) or partial(docker_kit, request.getfixturevalue("engine"))
    with make() as made:
        yield made
