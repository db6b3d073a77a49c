"""One machine with simulated GPUs: its real agent, driven round by round, against the real rows and scheduler."""

import time
from datetime import timedelta

from portal.kernel import clock
from scheduling import observed
from scheduling.models import Gpu, Job, Node
from scheduling.nodes.agent import Agent
from scheduling.nodes.driver import Inventory
from scheduling.nodes.exchange import InProcessExchange
from scheduling.nodes.gpus import SimulatedGpus
from scheduling.nodes.simulated import Faults, SimulatedDriver, SimulatedMachine
from scheduling.services import JobSpec, submit_job
from scheduling.tick import tick
from tests.people import People


class GpuSite:
    """`health`: what is wrong with its cards. `step_s`: what passes in one round."""

    step_s = 5

    def __init__(self, manual_clock: clock.ManualClock, people: People, *, name: str = "n1", gpus: int = 2) -> None:
        self.name, self.clock, self.people, self.boot = name, manual_clock, people, 0
        self.cards = SimulatedGpus(gpus, site=name).inventory()
        self.machine = SimulatedMachine()
        self.health = self.machine.health
        self.start()

    def start(self) -> None:
        """The machine starts, for the first time or again: nothing runs, its agent is new."""
        self.boot += 1
        self.machine.containers.clear()
        self.health.restart()
        self.new_agent()

    def new_agent(self) -> None:
        inventory = Inventory(
            cpu_millis=64_000, memory_mib=256_000, gpus=self.cards, boot_id=f"boot-{self.boot}", driver="simulated"
        )
        self.driver = SimulatedDriver(inventory=inventory, machine=self.machine, faults=Faults(gpu_use=(50, 4096)))
        exchange = InProcessExchange(lambda report: observed.exchange(report, now=clock.now()))
        self.agent = Agent(node=self.name, driver=self.driver, exchange=exchange)
        self.agent.round()

    def rounds(self, count: int = 3) -> None:
        """The scheduler plans, the agent acts and reports, and time passes, so many times."""
        for _ in range(count):
            tick()
            self.agent.round()
            end = time.monotonic() + 20
            while self.agent._memory.launches or self.agent._memory.stopping:
                assert time.monotonic() < end, "the simulated machine hangs"
                time.sleep(0.001)
            self.clock.advance(timedelta(seconds=self.step_s))

    def submit(self, **spec: object) -> Job:
        plain = {
            "name": "j",
            "image": "i",
            "kind": "batch",
            "limit": timedelta(hours=4),
            "gpus": 1,
            "preemptible": True,
        }
        wanted = JobSpec(**{**plain, **spec})  # type: ignore[arg-type]
        return submit_job(by=self.people.alice, team=self.people.red, spec=wanted, now=clock.now())

    def run(self, **spec: object) -> Job:
        """Submit, and let it get going."""
        job = self.submit(**spec)
        self.rounds()
        job.refresh_from_db()
        assert job.state == "running", (job.state, job.hold_code, job.hold_numbers)
        return job

    def uuid_of(self, job: Job) -> str:
        return Gpu.objects.get(slots__allocations__job=job, slots__allocations__released_at__isnull=True).uuid

    def gpu(self, uuid: str) -> Gpu:
        return Gpu.objects.get(uuid=uuid)

    def row(self) -> Node:
        return Node.objects.get(name=self.name)

    def close(self) -> None:
        self.agent.stop()
