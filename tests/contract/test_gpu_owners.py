"""Whose a process on a card is, told of real processes: those of a container by its allocation, all others as nobody's."""

import os

import pytest

from scheduling.nodes.gpus import SimulatedGpus, SimulatedLoad
from scheduling.nodes.health import WatchesGpus
from scheduling.nodes.processes import tree
from tests.contract.kit import Program, eventually, log_of, no_progress, processes_with
from tests.contract.process_kit import process_kit


def owners_of(driver, pids):
    """What the driver says of these processes, as if each had a simulated card."""
    assert isinstance(driver, WatchesGpus)
    gpus = driver._gpus
    assert isinstance(gpus, SimulatedGpus)
    card = gpus.inventory()[0].uuid
    for pid in pids:
        gpus.put(SimulatedLoad(gpu_uuid=card, pid=pid, utilization_pct=0, memory_mib=100))
    reading = next(reading for reading in driver.gpu_health() or () if reading.gpu_uuid == card)
    for pid in pids:
        gpus.end(pid=pid)
    assert [reading.processes for reading in driver.gpu_health() or ()] == [()] * len(gpus.inventory())
    return {process.pid: process.allocation for process in reading.processes}


def see_owners(kit):
    driver = kit.driver()
    driver.launch(kit.spec("7", Program.DAEMON), progress=no_progress)
    eventually(lambda: log_of(driver, "7") == ["ready"], what="its start to be over")
    lines = eventually(lambda: processes_with(kit.marker("7")), what="its processes")
    pids = [int(line.partition(":")[0]) for line in lines]
    seen = owners_of(driver, [*pids, os.getpid(), 2**22 + 1])
    there = [pid for pid in pids if tree.read(pid)]  # a shell that has just ended is nobody's any more
    assert {seen[pid] for pid in there} == {"7"}
    assert (seen[os.getpid()], seen[2**22 + 1]) == ("", None)


@pytest.mark.parametrize("ordinary", [False, True])
def test_a_process_belongs_to_the_allocation_that_started_it(ordinary):
    with process_kit(ordinary=ordinary) as kit:
        see_owners(kit)


@pytest.mark.docker
def test_a_process_belongs_to_the_docker_container_that_it_runs_in(engine):
    from tests.contract.docker_kit import docker_kit

    with docker_kit(engine) as kit:
        see_owners(kit)
