"""What the agent does about the difference between what should be and what is; `diff` and `describe` are pure."""

import threading

from scheduling.nodes.agent import Agent
from scheduling.nodes.driver import ContainerSpec, Inventory, Observation, Phase
from scheduling.nodes.exchange import Desired, DesiredPart, Report
from scheduling.nodes.reconcile import Launch, Memory, describe, diff
from scheduling.nodes.simulated import Faults, SimulatedDriver
from tests.services import wait_for

ADDRESS = ("10.0.0.2", 8888)


def part(key: str = "1", *, run: bool = True, launched: bool = False, port: int = 8888) -> DesiredPart:
    return DesiredPart(
        spec=ContainerSpec(allocation=key, job="1", team="red", image="i", port=port), run=run, launched=launched
    )


def seen(key: str = "1", phase: Phase = Phase.STARTING) -> dict[str, Observation]:
    return {key: Observation(key, phase, address=ADDRESS)}


def test_what_should_run_and_is_not_there_is_launched_once():
    assert [spec.allocation for spec in diff([part()], {}, Memory()).launch] == ["1"]
    assert diff([part()], {}, Memory(launches={"1": Launch()})).launch == ()


def test_what_was_launched_before_and_vanished_is_reported_and_never_launched_again():
    wanted = [part(launched=True)]
    assert diff(wanted, {}, Memory()).launch == ()
    assert [o.phase for o in describe(wanted, {}, Memory())] == [Phase.GONE]


def test_a_container_found_after_a_restart_is_adopted_and_probed():
    actions = diff([part()], seen(), Memory())
    assert actions.launch == ()
    assert [spec.allocation for spec in actions.probe] == ["1"]


def test_a_container_that_was_made_but_never_started_is_launched_to_the_end():
    halfway = {"1": Observation("1", Phase.STARTING, address=None)}
    for launched in (False, True):
        assert [spec.allocation for spec in diff([part(launched=launched)], halfway, Memory()).launch] == ["1"]
    assert diff([part()], halfway, Memory(launches={"1": Launch()})).launch == ()


def test_one_that_serves_nothing_is_launched_to_the_end_as_well_and_not_ready_before():
    halfway = {"1": Observation("1", Phase.STARTING, started=False)}
    assert [spec.allocation for spec in diff([part(port=0)], halfway, Memory()).launch] == ["1"]
    assert [o.phase for o in describe([part(port=0)], halfway, Memory())] == [Phase.STARTING]


def test_one_that_serves_nothing_is_not_ready_before_its_launch_has_said_so():
    wanted, there = [part(port=0)], seen()
    for memory, busy in (
        (Memory(launches={"1": Launch()}), {"1"}),
        (Memory(), {"1"}),
        (Memory(refused={"1": ("command-missing", "There is no such program.")}), set()),
    ):
        assert [o.phase for o in describe(wanted, there, memory, busy)] == [Phase.STARTING]


def test_a_ready_container_is_not_probed_again():
    memory = Memory(ready={"1": ADDRESS})
    assert diff([part()], seen(), memory).probe == ()
    assert [(o.phase, o.address) for o in describe([part()], seen(), memory)] == [(Phase.READY, ADDRESS)]


def test_a_container_that_serves_nothing_is_ready_when_it_runs():
    assert [o.phase for o in describe([part(port=0)], seen(), Memory())] == [Phase.READY]


def test_what_should_not_run_is_stopped_once():
    assert diff([part(run=False)], seen(), Memory()).stop == (("1", 10),)
    assert diff([part(run=False)], seen(), Memory(stopping={"1"})).stop == ()


def test_a_launch_under_way_that_is_not_wanted_any_more_is_stopped():
    assert diff([part(run=False)], {}, Memory(launches={"1": Launch()})).stop == (("1", 10),)


def test_an_orphan_is_removed():
    assert [key for key, _ in diff([], seen("99"), Memory()).stop] == ["99"]


def test_gone_is_said_only_when_nothing_is_left_and_nothing_is_under_way():
    wanted = [part(run=False)]
    assert [o.phase for o in describe(wanted, {}, Memory())] == [Phase.GONE]
    assert describe(wanted, {}, Memory(launches={"1": Launch()})) == []
    assert describe(wanted, {}, Memory(stopping={"1"})) == []


def test_absence_proves_nothing_while_a_launch_was_under_way_when_we_looked():
    # Observed nothing, then the launch finished, then we describe: a container is there although we saw none.
    assert describe([part(run=False)], {}, Memory(), busy={"1"}) == []


def test_a_refused_launch_is_reported_and_not_tried_again():
    memory = Memory(refused={"1": ("image-missing", "No such image.")})
    assert diff([part()], {}, memory).launch == ()
    (said,) = describe([part()], {}, memory)
    assert (said.phase, said.code, said.message) == (Phase.REFUSED, "image-missing", "No such image.")


def test_a_launch_that_waits_for_the_engine_is_tried_again():
    memory = Memory(launches={"1": Launch(under_way=False, away_since=3.0)})
    assert [spec.allocation for spec in diff([part()], {}, memory).launch] == ["1"]


def test_pulling_is_reported_with_its_progress():
    memory = Memory(launches={"1": Launch(progress=(10, 40))})
    assert [(o.phase, o.progress) for o in describe([part()], {}, memory)] == [(Phase.PULLING, (10, 40))]


def test_servers_that_never_answer_hold_up_no_stop():
    """More of them than the agent has threads: all are stopped as soon as they are not wanted."""
    machine = Inventory(cpu_millis=64_000, memory_mib=64_000, driver="simulated", boot_id="b")
    driver = SimulatedDriver(inventory=machine, faults=Faults(never_ready=True), serve=True)
    keys = [str(number) for number in range(1, 31)]
    wanted = [Desired(version=1, parts=tuple(part(key) for key in keys))]
    gone = threading.Event()

    def exchange(report: Report) -> Desired:
        if report.held_version == 2 and len([o for o in report.observations if o.phase is Phase.GONE]) == len(keys):
            gone.set()
        return wanted[0]

    agent = Agent(node="n", driver=driver, exchange=exchange)
    agent.start()
    try:
        wait_for(lambda: len(driver.observe()) == len(keys), seconds=20, what="all to be launched")
        wanted[0] = Desired(version=2, parts=tuple(part(key, run=False) for key in keys))
        agent.wake()
        assert gone.wait(20)
        assert list(driver.observe()) == []
    finally:
        agent.stop()
