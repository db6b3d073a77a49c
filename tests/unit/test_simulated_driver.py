"""Each injectable fault does what its name says, by the clock that the test holds."""

import http.client
import threading
from datetime import timedelta

import pytest

from portal.kernel.clock import ManualClock
from scheduling.nodes.driver import (
    ContainerSpec,
    Device,
    Inventory,
    LaunchRefused,
    NodeUnreachable,
    NotYetGone,
    Observation,
    Phase,
)
from scheduling.nodes.gpus import SimulatedGpus
from scheduling.nodes.simulated import PULL_BYTES, Faults, SimulatedDriver

GPUS = SimulatedGpus(2, site="unit").inventory()
INVENTORY = Inventory(cpu_millis=8000, memory_mib=32768, gpus=GPUS, boot_id="one", driver="simulated")
SPEC = ContainerSpec("a1", job="j1", team="red", image="simulated", devices=(Device(GPUS[0].uuid, simulated=True),))
SECOND = timedelta(seconds=1)


def ignore(done: int, total: int) -> None: ...


def launched(faults: Faults, *, serve: bool = False) -> SimulatedDriver:
    driver = SimulatedDriver(inventory=INVENTORY, faults=faults, serve=serve)
    driver.launch(SPEC, progress=ignore)
    return driver


def only(driver: SimulatedDriver) -> Observation:
    (seen,) = driver.observe()
    return seen


def test_a_slow_pull_blocks_the_launch_and_tells_how_far_it_is(manual_clock: ManualClock) -> None:
    driver = SimulatedDriver(inventory=INVENTORY, faults=Faults(pull_s=10))
    told: list[tuple[int, int]] = []
    begun = threading.Event()

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        begun.set()

    launch = threading.Thread(target=driver.launch, args=(SPEC,), kwargs={"progress": progress})
    launch.start()
    begun.wait()
    assert driver.observe() == []
    manual_clock.advance(10 * SECOND)
    launch.join()
    assert told[0] == (0, PULL_BYTES)
    assert told[-1] == (PULL_BYTES, PULL_BYTES)
    assert only(driver).phase is Phase.STARTING


def test_a_stop_during_the_pull_abandons_it(manual_clock: ManualClock) -> None:
    driver = SimulatedDriver(inventory=INVENTORY, faults=Faults(pull_s=10))
    begun = threading.Event()
    launch = threading.Thread(target=driver.launch, args=(SPEC,), kwargs={"progress": lambda done, total: begun.set()})
    launch.start()
    begun.wait()
    driver.stop("a1", grace_s=0)
    launch.join()
    assert driver.observe() == []


def test_a_refusal_carries_its_reason_and_leaves_nothing() -> None:
    driver = SimulatedDriver(inventory=INVENTORY, faults=Faults(refuse=("image-missing", "There is no such image.")))
    with pytest.raises(LaunchRefused) as refusal:
        driver.launch(SPEC, progress=ignore)
    assert (refusal.value.code, refusal.value.message) == ("image-missing", "There is no such image.")
    assert driver.observe() == []


def test_a_program_ends_by_itself_when_its_time_has_come(manual_clock: ManualClock) -> None:
    driver = launched(Faults(exit_after_s=5, exit_code=7, says=("so long",)))
    assert only(driver).phase is Phase.STARTING
    manual_clock.advance(5 * SECOND)
    seen = only(driver)
    assert (seen.phase, seen.exit_code) == (Phase.EXITED, 7)
    assert seen.log_tail.endswith("so long")


def test_an_engine_that_is_away_answers_no_verb_until_it_is_back(manual_clock: ManualClock) -> None:
    driver = launched(Faults())
    driver.inject(Faults(away_for_s=30))
    for verb in (
        driver.inventory,
        driver.observe,
        driver.sample,
        lambda: driver.launch(SPEC, progress=ignore),
        lambda: driver.stop("a1", grace_s=0),
        lambda: driver.logs("a1", tail=1),
    ):
        with pytest.raises(NodeUnreachable):
            verb()
    manual_clock.advance(30 * SECOND)
    assert only(driver).allocation == "a1"


def test_a_liar_hides_what_is_there_until_the_lie_is_taken_back() -> None:
    driver = launched(Faults(hidden=True))
    assert driver.observe() == []
    driver.inject(Faults())
    assert only(driver).phase is Phase.STARTING


def test_a_liar_shows_what_is_gone_until_the_lie_is_taken_back() -> None:
    driver = launched(Faults(haunting=True))
    driver.stop("a1", grace_s=0)
    assert only(driver).phase is Phase.STARTING
    driver.inject(Faults())
    assert driver.observe() == []


def test_what_never_goes_says_so_at_each_stop() -> None:
    driver = launched(Faults(never_gone=True))
    for _ in range(2):
        with pytest.raises(NotYetGone):
            driver.stop("a1", grace_s=0)
    assert only(driver).phase is Phase.STARTING


def test_a_fault_may_be_meant_for_one_allocation_only() -> None:
    driver = SimulatedDriver(inventory=INVENTORY)
    driver.inject(Faults(refuse=("no", "No.")), allocation="a2")
    driver.launch(SPEC, progress=ignore)
    assert only(driver).allocation == "a1"


@pytest.mark.parametrize(("faults", "status"), [(Faults(), 200), (Faults(never_ready=True), 503)])
def test_its_server_answers_for_real_unless_it_is_never_ready(faults: Faults, status: int) -> None:
    driver = launched(faults, serve=True)
    address = only(driver).address
    assert address
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().status == status
    connection.close()
    driver.stop("a1", grace_s=0)
    with pytest.raises(ConnectionRefusedError):
        connection.connect()


def test_a_gpu_shows_what_its_simulated_process_does_and_nothing_after_its_end() -> None:
    driver = launched(Faults(gpu_use=(60, 4096)))
    busy, idle = driver.sample()
    assert (busy.utilization_pct, busy.memory_used_mib, busy.processes) == (60, 4096, ((1, 4096),))
    assert (idle.utilization_pct, idle.memory_used_mib, idle.processes) == (0, 0, ())
    driver.stop("a1", grace_s=0)
    assert [sample.utilization_pct for sample in driver.sample()] == [0, 0]
