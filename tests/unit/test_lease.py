"""A node alone: how long its containers go on without an answer, and what it remembers of what it was told."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from portal.kernel.clock import ManualClock
from scheduling.nodes.agent import Agent
from scheduling.nodes.driver import ContainerSpec, Inventory, Observation, Phase
from scheduling.nodes.exchange import Desired, DesiredPart, Report
from scheduling.nodes.lease import Broken, Lease
from scheduling.nodes.simulated import SimulatedDriver, SimulatedMachine
from tests.services import wait_for

MACHINE = Inventory(cpu_millis=8000, memory_mib=8000, driver="simulated", boot_id="b1")
PARTS = (DesiredPart(ContainerSpec("7", job="1", team="red", image="i"), run=True, launched=False),)


class Portal:
    """Answers what `desired` holds; away while it is None."""

    def __init__(self) -> None:
        self.desired: Desired | None = Desired(version=5, parts=PARTS, lease_s=30.0)
        self.reports: list[Report] = []

    def __call__(self, report: Report) -> Desired:
        if self.desired is None:
            raise ConnectionError("away")
        self.reports.append(report)
        return self.desired


class Site:
    """A machine, its agent's disk, and the portal."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.clock, self.file = clock, folder / "lease.json"
        self.machine, self.portal = SimulatedMachine(), Portal()

    def agent(self, boot: str = "b1") -> Agent:
        """Its loop does not run: the test makes each round."""
        driver = SimulatedDriver(inventory=MACHINE, machine=self.machine)
        return Agent(node="n1", driver=driver, exchange=self.portal, lease=Lease(self.file, boot=boot))

    def pass_seconds(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    def runs(self) -> bool:
        return "7" in self.machine.containers

    def rounds_until(self, agent: Agent, runs: bool) -> None:
        def one() -> bool:
            agent.round()
            return self.runs() is runs

        wait_for(one, seconds=10, what=f"the container to {'run' if runs else 'be gone'}")


@pytest.fixture
def site(tmp_path: Path, manual_clock: ManualClock) -> Site:
    return Site(tmp_path, manual_clock)


def test_containers_go_on_while_the_lease_lasts_and_end_with_it(site: Site):
    agent = site.agent()
    site.rounds_until(agent, runs=True)
    site.portal.desired = None
    site.pass_seconds(29.9)
    agent.round()
    assert site.runs()
    site.pass_seconds(0.1)
    site.rounds_until(agent, runs=False)


def test_what_ended_with_the_lease_is_told_as_that_and_not_started_again(site: Site):
    agent = site.agent()
    site.rounds_until(agent, runs=True)
    answered, site.portal.desired = site.portal.desired, None
    site.pass_seconds(31)
    site.rounds_until(agent, runs=False)
    site.portal.desired = answered

    def told() -> tuple[Observation, ...]:
        """Nothing is said of a container that a thread is still stopping, although the machine shows none any more."""
        agent.round()
        return site.portal.reports[-1].observations

    (said,) = wait_for(told, seconds=10, what="the node to say what became of it")
    assert (said.phase, said.code) == (Phase.GONE, "lease-over")
    agent.round()
    assert not site.runs()


def test_an_agent_that_is_killed_after_it_ended_what_outlived_the_lease_still_knows_that_it_was_its_own_doing(
    site: Site,
):
    agent = site.agent()
    site.rounds_until(agent, runs=True)
    launched = tuple(replace(part, launched=True) for part in PARTS)
    site.portal.desired = None
    site.pass_seconds(31)
    site.rounds_until(agent, runs=False)
    site.portal.desired = Desired(version=6, parts=launched, lease_s=30.0)
    next_one = site.agent()
    next_one.round()  # it hears what should run
    next_one.round()
    (said,) = site.portal.reports[-1].observations
    assert (said.phase, said.code) == (Phase.GONE, "lease-over"), "not: somebody removed it"
    site.portal.desired = Desired(version=7, lease_s=30.0)
    next_one.round()
    assert site.agent()._memory.overdue == set(), "what the portal wants no longer is forgotten"


def test_the_lease_counts_from_sending_and_not_from_the_answer(site: Site):
    agent = site.agent()
    slow = site.portal.__call__

    def answer_late(report: Report) -> Desired:
        site.pass_seconds(9)
        return slow(report)

    agent._exchange = answer_late
    site.rounds_until(agent, runs=True)
    agent._exchange = site.portal
    site.portal.desired = None
    site.pass_seconds(21)  # 30 s after the report was sent, 21 s after its answer came
    site.rounds_until(agent, runs=False)


def test_an_agent_that_starts_within_the_lease_adopts_and_one_that_starts_later_ends_first(site: Site):
    site.rounds_until(site.agent(), runs=True)
    site.pass_seconds(29)
    site.portal.desired = None  # not even asked
    site.agent()._end_what_outlived_its_lease()
    assert site.runs()
    site.pass_seconds(1)
    site.agent()._end_what_outlived_its_lease()
    assert not site.runs()


def test_after_a_reboot_the_lease_is_over(site: Site):
    site.rounds_until(site.agent(), runs=True)
    site.agent(boot="b2")._end_what_outlived_its_lease()
    assert not site.runs()


def test_an_older_desired_state_is_ignored_even_after_a_restart_and_a_newer_epoch_is_taken(site: Site):
    site.rounds_until(site.agent(), runs=True)
    site.portal.desired = Desired(version=4, lease_s=30.0)  # says that nothing should run here
    agent = site.agent()
    agent.round()
    agent.round()
    assert site.runs()
    assert "node_epoch" in site.portal.reports[-1].trouble
    site.portal.desired = Desired(version=1, epoch=1, lease_s=30.0)
    site.rounds_until(agent, runs=False)
    agent.round()
    assert site.portal.reports[-1].trouble == ""


def test_each_start_counts_and_the_file_is_private(site: Site):
    assert [site.agent()._lease.start for _ in range(3)] == [1, 2, 3]
    assert site.file.stat().st_mode & 0o777 == 0o600


def test_a_broken_file_is_named_and_not_taken_for_a_fresh_one(site: Site):
    site.file.write_text("{")
    with pytest.raises(Broken, match=str(site.file)):
        site.agent()
