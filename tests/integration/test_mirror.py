"""A planner that reads only what changed is, after every look, the one that reads everything, and plans the same."""

import contextlib
import os
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from portal.kernel import clock
from portal.kernel.errors import Rejected
from scheduling import services, wiring
from scheduling.core.lifecycle import FINAL
from scheduling.core.plan import Planner
from scheduling.mirror import Mirror
from scheduling.models import Allocation, Booking, Gpu, Job, Node, Slot
from scheduling.nodes.driver import GpuInfo, Inventory, Observation, Phase
from scheduling.records.ranges import parse
from scheduling.services import JobSpec
from scheduling.shaping import seconds
from scheduling.snapshot import load_cluster
from scheduling.tick import Memory, tick
from tenants.models import Team, TeamWindow
from tests.hand_node import HandNode
from tests.quotas import guarantee

#: worlds, each with its own seed
WORLDS = max(1, int(os.environ.get("TEST_EXAMPLES", "100")) // 50)
STEPS = 45
EVENTS = (
    *(
        "submit",
        "submit",
        "submit",
        "array",
        "cancel",
        "cycle",
        "cycle",
        "report",
        "report",
        "report",
        "requeue",
        "late",
    ),
    *("trouble", "quota", "book", "window", "retire", "quarantine", "drain", "team", "new_node"),
)


def inventory(name: str, cards: int) -> Inventory:
    gpus = tuple(
        GpuInfo(uuid=f"{name}-{i}", index=i, model="Simulated GPU", memory_mib=81_920, simulated=True)
        for i in range(cards)
    )
    return Inventory(cpu_millis=32_000, memory_mib=128 * 1024, gpus=gpus, boot_id="boot-1", driver="docker")


class Story:
    """Everything that may happen to a cluster, at random, beside cycles that keep a memory."""

    def __init__(self, people, manual_clock, seed: int) -> None:
        self.people, self.clock, self.random = people, manual_clock, Random(seed)
        self.nodes = [HandNode(inventory(f"n{n}", cards), f"n{n}") for n, cards in enumerate((4, 4, 2, 0))]
        self.memory = Memory()
        guarantee(people.red, 3)
        guarantee(people.blue, 5)

    def step(self) -> str:
        what = self.random.choice(EVENTS)
        getattr(self, what)()
        return what

    def submit(self) -> None:
        person, team = self.random.choice(
            (
                (self.people.alice, self.people.red),
                (self.people.bob, self.people.red),
                (self.people.charlie, self.people.blue),
            )
        )
        spec = JobSpec(
            name="work", image="x", kind="batch", limit=timedelta(minutes=self.random.choice((2, 30, 600))),
            gpus=self.random.choice((0, 1, 1, 2, 4)), replicas=self.random.choice((1, 1, 1, 2)),
            tier=self.random.choice(("normal", "batch")), preemptible=self.random.random() < 0.8,
            priority=self.random.choice((0, 0, 5)),
        )  # fmt: skip
        with contextlib.suppress(Rejected):  # it could never start
            services.submit_job(by=person, team=team, spec=spec, now=clock.now())

    def array(self) -> None:
        spec = JobSpec(
            name="sweep", image="x", kind="batch", limit=timedelta(minutes=30), gpus=self.random.choice((0, 1)),
            array=parse(self.random.choice(("0-9", "0-30:3%2"))), retries=self.random.choice(({}, {"exit": 1})),
            preemptible=self.random.random() < 0.8,
        )  # fmt: skip
        with contextlib.suppress(Rejected):
            services.submit_job(by=self.people.bob, team=self.people.red, spec=spec, now=clock.now())

    def cancel(self) -> None:
        jobs = list(Job.objects.exclude(state__in=FINAL).order_by("pk"))
        if jobs:
            services.cancel_job(job=self.random.choice(jobs), now=clock.now())

    def cycle(self) -> None:
        tick(self.memory)

    def report(self) -> None:
        """Some containers of one node come one step further."""
        node = self.random.choice(self.nodes)
        for part in node.desired():
            if self.random.random() < 0.7:
                if not part.run:
                    phase = Phase.GONE
                else:
                    phase = self.random.choice((Phase.PULLING, Phase.STARTING, Phase.READY, Phase.READY, Phase.EXITED))
                progress = {"progress": (self.random.randrange(100), 100)} if phase is Phase.PULLING else {}
                node.report(Observation(part.spec.allocation, phase, address=("127.0.0.1", 1), **progress))

    def late(self) -> None:
        self.clock.advance(timedelta(seconds=self.random.choice((1, 20, 90, 700))))
        for node in self.nodes:
            if self.random.random() < 0.8:
                node.report()

    def trouble(self) -> None:
        self.random.choice(self.nodes).report(trouble=self.random.choice(("", "The engine does not answer.")))

    def quota(self) -> None:
        guarantee(
            self.random.choice((self.people.red, self.people.blue)),
            self.random.randrange(7),
            weight=self.random.choice((1, 2)),
        )

    def book(self) -> None:
        Booking.objects.all().delete()
        starts = clock.now() + timedelta(minutes=self.random.choice((-5, 30)))
        booking = Booking.objects.create(team=self.people.blue, starts_at=starts, ends_at=starts + timedelta(hours=1))
        booking.nodes.set(Node.objects.filter(name="n1"))

    def window(self) -> None:
        TeamWindow.objects.all().delete()
        if self.random.random() < 0.5:
            TeamWindow.objects.create(team=self.people.red, starts=0, ends=self.random.choice((3600, 80_000)))

    def retire(self) -> None:
        """A card disappears, or comes back."""
        node = self.random.choice(self.nodes[:3])
        cards = self.random.randrange(1, len(node.inventory.gpus) + 1)
        node.report(inventory=replace(node.inventory, gpus=node.inventory.gpus[:cards]))

    def quarantine(self) -> None:
        """A card is found sick, or well again."""
        cards = Gpu.objects.filter(pk=self.random.choice(Gpu.objects.order_by("pk")).pk)
        if self.random.random() < 0.5:
            cards.update(quarantined_at=clock.now(), quarantine_reason="It has fallen off the bus.")
        else:
            cards.update(quarantined_at=None, quarantine_reason="")

    def new_node(self) -> None:
        name = f"n{len(self.nodes)}"
        self.nodes.append(HandNode(inventory(name, self.random.choice((0, 2))), name))

    def drain(self) -> None:
        state = self.random.choice(("ready", "draining", "cordoned"))
        Node.objects.filter(pk=self.random.choice(Node.objects.order_by("pk")).pk).update(state=state)

    def requeue(self) -> None:
        """Whatever stops is seen gone, wherever it is."""
        for node in self.nodes:
            for part in node.desired():
                if not part.run:
                    node.report(Observation(part.spec.allocation, Phase.GONE))

    def team(self) -> None:
        number = Team.objects.count()
        Team.objects.create(slug=f"t{number}", name=f"Team {number}", parent=self.people.blue)


def everything(planner: Planner):
    seen = planner.snapshot()
    return replace(seen, past=tuple(row for row in seen.past if row.mean or row.at))


@pytest.mark.parametrize("seed", range(WORLDS))
def test_whatever_happens_the_mirror_is_what_a_cold_look_sees(people, manual_clock, seed):
    before = wiring.wired()
    try:
        story = Story(people, manual_clock, seed)
        mirror, told = Mirror(before.policy), []
        for _ in range(STEPS):
            for _ in range(story.random.choice((1, 1, 3))):
                told.append(story.step())
            cold = Planner(before.policy)
            cold.load(load_cluster(clock.now()))
            warm = mirror.catch_up(clock.now())
            assert everything(warm) == everything(cold), told
            assert warm.plan(seconds(clock.now())) == cold.plan(seconds(clock.now())), told
        assert mirror.anew < STEPS / 3, "it follows; it does not begin anew each time"
    finally:
        wiring.use(before)


def test_a_look_at_a_queue_that_stands_still_takes_as_many_queries_for_ten_as_for_a_hundred(people, manual_clock):
    before = wiring.wired()
    try:
        story, mirror = Story(people, manual_clock, 1), Mirror(before.policy)
        mirror.catch_up(clock.now())
        counts = []
        for many in (10, 100):
            for _ in range(many):
                story.submit()
            mirror.catch_up(clock.now())
            with CaptureQueriesContext(connection) as seen:
                mirror.catch_up(clock.now())
            counts.append(len(seen))
        assert counts[0] == counts[1] < 20
        assert mirror.anew == 1
    finally:
        wiring.use(before)


def test_an_error_half_way_means_to_begin_anew(people, manual_clock, monkeypatch):
    before = wiring.wired()
    try:
        story, mirror = Story(people, manual_clock, 2), Mirror(before.policy)
        mirror.catch_up(clock.now())
        story.submit()
        with monkeypatch.context() as broken:
            broken.setattr(mirror.planner, "submit", lambda ask: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                mirror.catch_up(clock.now())
        assert len(mirror.catch_up(clock.now()).queue.asks) == 1
        assert mirror.anew == 2
    finally:
        wiring.use(before)


def test_cycles_with_a_memory_hold_no_slot_twice(people, manual_clock):
    before = wiring.wired()
    try:
        story = Story(people, manual_clock, 3)
        for _ in range(150):
            story.step()
        live = Allocation.objects.filter(released_at__isnull=True)
        for slot in Slot.objects.all():
            assert list(live.filter(slot=slot).values_list("job_id", flat=True)) == [j for j in [slot.held_by_id] if j]
        assert all(gpu.held_units in (0, 42_000) for gpu in Gpu.objects.all())
    finally:
        wiring.use(before)


def test_now_and_then_it_begins_anew_and_says_if_it_had_lost_its_way(people, manual_clock, caplog):
    before = wiring.wired()
    try:
        story, mirror = Story(people, manual_clock, 4), Mirror(before.policy)
        story.submit()
        mirror.catch_up(clock.now())
        manual_clock.advance(timedelta(minutes=11))
        mirror.catch_up(clock.now())
        assert mirror.anew == 2
        assert "lost its way" not in caplog.text
        # Somebody changed what a job asks for, and not its version.
        Job.objects.update(priority=9)
        mirror.catch_up(clock.now())
        manual_clock.advance(timedelta(minutes=11))
        assert [ask.priority for ask in mirror.catch_up(clock.now()).queue.asks.values()] == [9]
        assert "the mirror had lost its way: asks" in caplog.text
    finally:
        wiring.use(before)
