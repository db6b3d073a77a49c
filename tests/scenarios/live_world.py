"""A story in the live loop: real rows, real agents, the simulated driver, and a clock that is moved in steps."""

import time
from dataclasses import replace
from datetime import datetime, timedelta

from portal.kernel import clock
from scheduling import observed, services, wiring
from scheduling.core.cluster import Node
from scheduling.core.lifecycle import FINAL, JobState
from scheduling.models import Allocation, Booking, Job, JobTransition, PastUse
from scheduling.models import Node as NodeRow
from scheduling.nodes.agent import Agent
from scheduling.nodes.driver import GpuInfo, Inventory
from scheduling.nodes.exchange import InProcessExchange
from scheduling.nodes.simulated import Faults, SimulatedDriver
from scheduling.services import JobSpec
from scheduling.tick import Memory, tick
from tenants.models import Member, Quota, Role, Team, TeamWindow, User
from tests.scenarios.story import Fates, Past, Story

ROUNDS, DAY = 40, 86_400


class Machine(SimulatedDriver):
    """Who is told to stop takes all of the grace, counted from when it was told: a thread that comes late to it under
    load would otherwise move the story."""

    def __init__(self, inventory: Inventory) -> None:
        super().__init__(inventory=inventory)
        self.asked: dict[str, float] = {}

    def stop(self, allocation: str, *, grace_s: int) -> None:
        self.asked.setdefault(allocation, clock.monotonic() + grace_s)
        while allocation in self._machine.containers and allocation not in self.over():
            time.sleep(0.002)
        super().stop(allocation, grace_s=0)

    def over(self) -> set[str]:
        """Of those that were told to stop, the ones that have by now."""
        there = dict(self._machine.containers)
        return {
            key
            for key, ends in list(self.asked.items())
            if clock.monotonic() >= ends or key not in there or there[key].has_exited()
        }


class LiveWorld:
    """Each program runs as long as the story says, and one that is stopped needs all of its grace."""

    def __init__(self, story: Story, manual_clock: clock.ManualClock) -> None:
        self.story, self.clock, self.began = story, manual_clock, manual_clock.now()
        wiring.use(replace(wiring.wired(), policy=story.policy, hint_tick=lambda: None, wake_node=lambda _: None))
        self.memory = Memory()
        self.teams = _make_teams(story, self.began)
        self.people = {name: _make_person(team) for name, team in self.teams.items()}
        self.jobs: dict[str, Job] = {}
        self.told: set[str] = set()
        self.machines = [_machine(node) for node in story.site.nodes]
        for agent, _ in self.machines:
            agent.round()
        for booking in story.site.bookings:
            team = next(team.name for team in story.site.teams if team.id == booking.team)
            starts, ends = self._at(booking.starts), self._at(booking.ends)
            row = Booking.objects.create(team=self.teams[team], starts_at=starts, ends_at=ends)
            names = [node.name for node in story.site.nodes if node.id in booking.nodes]
            row.nodes.set(NodeRow.objects.filter(name__in=names))

    def run(self) -> tuple[Fates, Past]:
        """Until every job has ended."""
        waiting = list(self.story.jobs)
        while waiting or Job.objects.exclude(state__in=FINAL).exists():
            now = self._now()
            self._settle()  # ends and releases come before what is submitted at the same moment
            while waiting and waiting[0].submit_s <= now:
                job = waiting.pop(0)
                self.jobs[job.id] = self._submit(job)
            for _ in range(ROUNDS):
                outcome = tick(self.memory).outcome
                assert outcome is not None
                assert outcome.outdated == 0
                if not (outcome.placed or outcome.stopped):
                    break
                self._settle(at_least=2)  # what is launched in one round is reported in the next
            self.clock.advance(timedelta(seconds=self.story.step_s))
            self._wait_for_stops()
        return self._fates(), self._past()

    def close(self) -> None:
        for agent, _ in self.machines:
            agent.stop()

    def _now(self) -> int:
        return int((self.clock.now() - self.began).total_seconds())

    def _at(self, second: int | None) -> datetime | None:
        return None if second is None else self.began + timedelta(seconds=second)

    def _submit(self, job) -> Job:
        spec = JobSpec(
            name=job.id, image="simulated", kind="batch", gpus=job.gpus, replicas=job.replicas, cpu_millis=0,
            memory_mib=0, limit=timedelta(seconds=job.limit_s), tier=job.tier or "normal", priority=job.priority,
            preemptible=job.preemptible, pools=job.pools, deadline=self._at(job.deadline_s),
            not_before=self._at(job.not_before_s),
        )  # fmt: skip
        return services.submit_job(by=self.people[job.team], team=self.teams[job.team], spec=spec, now=clock.now())

    # ---------------------------------------------------------------------------------------- machines
    def _settle(self, at_least: int = 1) -> None:
        """Let the agents act and report until nothing moves at this moment."""
        for done in range(1, ROUNDS):
            before = self._rows()
            self._tell_programs()
            for agent, driver in self.machines:
                agent.round()
                _wait(lambda agent=agent: not agent._memory.launches)
                _wait(lambda agent=agent, driver=driver: agent._memory.stopping <= driver.asked.keys())
            self._wait_for_stops()
            if done >= at_least and self._rows() == before:
                return
        raise AssertionError(f"the machines do not come to rest at {self._now()} s")

    def _rows(self) -> list[tuple[int, str, str, bool]]:
        rows = Allocation.objects.order_by("id").values_list("id", "job__state", "phase", "released_at")
        return [(pk, state, phase, at is None) for pk, state, phase, at in rows]

    def _tell_programs(self) -> None:
        lasts = {job.id: job.duration_s for job in self.story.jobs}
        for pk, name in Allocation.objects.filter(released_at__isnull=True).values_list("id", "job__name"):
            if str(pk) not in self.told:
                self.told.add(str(pk))
                for _, driver in self.machines:
                    driver.inject(Faults(exit_after_s=lasts[name]), allocation=str(pk))

    def _wait_for_stops(self) -> None:
        """Threads that stop a container see by themselves that its grace is over: wait for those that must have."""
        for agent, driver in self.machines:
            _wait(lambda agent=agent, driver=driver: not driver.over() & agent._memory.stopping)

    # ---------------------------------------------------------------------------------------- what came of it
    def _fates(self) -> Fates:
        def after(at: datetime | None) -> int | None:
            return None if at is None else int((at - self.began).total_seconds())

        fates: Fates = {}
        for name, job in self.jobs.items():
            moves = JobTransition.objects.filter(job=job)
            first = moves.filter(to_state=JobState.PLACED).values_list("at", flat=True).first()
            evictions = moves.filter(to_state=JobState.QUEUED, from_state=JobState.STOPPING).count()
            fates[name] = (after(first), after(Job.objects.get(pk=job.pk).ended_at), evictions)
        return fates

    def _past(self) -> Past:
        teams = {team.pk: name for name, team in self.teams.items()}
        return {
            (teams[row.team], teams[row.team] if row.person else "", row.pool): row.mean
            for row in PastUse.objects.all()
        }


def _machine(node: Node) -> tuple[Agent, Machine]:
    gpus = tuple(
        GpuInfo(uuid=f"SIM-{gpu.id}", index=place, model=gpu.model, memory_mib=gpu.memory_mib, simulated=True)
        for place, gpu in enumerate(node.gpus)
    )
    driver = Machine(
        Inventory(cpu_millis=node.cpu_millis, memory_mib=node.memory_mib, gpus=gpus, boot_id="one", driver="simulated")
    )
    exchange = InProcessExchange(lambda report: observed.exchange(report, now=clock.now()))
    return Agent(node=node.name, driver=driver, exchange=exchange), driver


def _wait(question) -> None:
    end = time.monotonic() + 20
    while not question():
        assert time.monotonic() < end, "a simulated machine hangs"
        time.sleep(0.001)


def _make_teams(story: Story, began: datetime) -> dict[str, Team]:
    """Windows, of every day, are counted from when the story begins, where the simulator's first midnight is."""
    rows: dict[int, Team] = {}
    midnight = began.hour * 3600 + began.minute * 60 + began.second
    for team in sorted(story.site.teams, key=lambda team: (bool(team.parent), team.id)):
        rows[team.id] = Team.objects.create(
            slug=team.name, name=team.name, parent=rows.get(team.parent),
            min_runtime=timedelta(seconds=team.min_runtime_s),
        )  # fmt: skip
        for quota in team.quotas:
            columns = {name: getattr(quota, name) for name in quota.__dataclass_fields__}
            Quota.objects.create(team=rows[team.id], **columns)
        for window in team.windows:
            starts, ends = ((at + midnight) % DAY for at in (window.starts, window.ends))
            TeamWindow.objects.create(team=rows[team.id], starts=starts, ends=ends)
    return {row.slug: row for row in rows.values()}


def _make_person(team: Team) -> User:
    person = User.objects.create(username=team.slug)
    Member.objects.create(team=team, user=person, role=Role.OWNER)
    return person
