"""Requests and answers are lost, doubled and late: every container is started once and every job ends once."""

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from portal.kernel import clock
from scheduling import enrolment, wiring
from scheduling.models import Allocation, Job
from scheduling.nodes.agent import Agent
from scheduling.nodes.exchange import HttpExchange
from scheduling.nodes.portal_client import NotAnswered, NotLetIn
from scheduling.nodes.simulated import SimulatedDriver, SimulatedMachine
from scheduling.services import JobSpec, cancel_job, submit_job
from scheduling.tick import tick
from tests.far_node import machine, post
from tests.services import wait_for

FAULTS = ["none", "none", "lost request", "lost answer", "twice", "late"]


class LossyClient:
    """In the place of PortalClient: the portal's real door, behind a network as bad as `rolls` makes it."""

    def __init__(self, rolls: random.Random | None) -> None:
        self.rolls = rolls
        self.held: list[tuple[Any, str]] = []

    def post(self, path: str, body: Any, *, key: str = "") -> Any:
        fault = self.rolls.choice(FAULTS) if self.rolls else "none"
        if fault == "lost request":
            raise NotAnswered("lost")
        if fault == "late":
            self.held.append((body, key))
            raise NotAnswered("late")
        status, answer = post("exchange", body, key)
        if fault == "twice":
            status, answer = post("exchange", body, key)
        if self.held and self.rolls and self.rolls.random() < 0.5:
            late, owner = self.held.pop(self.rolls.randrange(len(self.held)))
            assert post("exchange", late, owner)[0] in (200, 409)
        if fault == "lost answer":
            raise NotAnswered("lost")
        if status != 200:
            raise NotLetIn(answer["detail"], status=status, code=answer["code"])
        return answer


class World:
    def __init__(self, rolls: random.Random) -> None:
        token = enrolment.create_join_token(name="n1", pool="", simulated=0, now=clock.now())
        self.key = post("join", {"token": token})[1]["nodes"][0]["key"]
        self.client = LossyClient(rolls)
        self.machine = SimulatedMachine()
        self.starts = 0
        self.agent = self.start()

    def start(self) -> Agent:
        """A start of the agent; the earlier one is as good as killed."""
        self.starts += 1
        exchange = HttpExchange(self.client, key=self.key, agent=f"process-{self.starts}", start=self.starts)  # type: ignore[arg-type]
        cards = replace(machine("n1"), driver="simulated")
        driver = SimulatedDriver(inventory=cards, machine=self.machine)
        self.agent = Agent(node="n1", driver=driver, exchange=exchange)
        return self.agent

    def until(self, question, what: str) -> None:
        def one() -> bool:
            self.agent.round()
            tick()
            return bool(question())

        wait_for(one, seconds=30, what=what)


@pytest.mark.parametrize("seed", range(6))
def test_a_bad_network_and_a_dying_agent_start_and_end_everything_once(people, seed):
    before = wiring.wired()
    wiring.use(replace(before, hint_tick=lambda: None, wake_node=lambda name: None))
    try:
        rolls = random.Random(seed)
        world = World(rolls)
        world.until(lambda: world.agent.answered_at, "the first answer")
        spec = JobSpec(name="j", image="i", limit=timedelta(hours=1), gpus=1)
        jobs = [submit_job(by=people.alice, team=people.red, spec=spec, now=clock.now()) for _ in range(4)]
        for number in range(40):  # two run, and two wait for their cards
            world.agent.round()
            tick()
            if number % 9 == 8:
                world.start()
            running = Job.objects.filter(state="running").order_by("id").first()
            if running and rolls.random() < 0.3:
                cancel_job(job=running, now=clock.now())
        world.client.rolls = None
        for late, owner in world.client.held:  # whatever is still on its way arrives now
            assert post("exchange", late, owner)[0] in (200, 409)

        def settled() -> bool:
            for job in Job.objects.filter(state="running"):
                cancel_job(job=job, now=clock.now())
            return not Job.objects.exclude(state="cancelled").exists()

        world.until(settled, "all jobs to end")
        world.until(lambda: not world.machine.containers, "all containers to go")
        assert world.machine.started == len(jobs)
        assert not Allocation.objects.filter(released_at__isnull=True).exists()
        for job in jobs:
            moves = list(job.transitions.values_list("to_state", flat=True))
            assert moves == ["queued", "placed", "starting", "running", "stopping", "cancelled"]
    finally:
        wiring.use(before)
