"""One case in this process: `python -m tests.benchmarks.control.cases CASE ROUNDS`, on an empty database."""

import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from statistics import median

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.models import F  # noqa: E402

from portal.kernel import clock  # noqa: E402
from scheduling import wiring  # noqa: E402
from scheduling.core.cluster import Cluster, Shape  # noqa: E402
from scheduling.core.lifecycle import FINAL, EndReason  # noqa: E402
from scheduling.models import Allocation, Claim, Gpu, Job, Slot  # noqa: E402
from scheduling.tick import Cycle, Memory, tick  # noqa: E402
from tenants.models import Team, User  # noqa: E402
from tests.benchmarks.control.world import store  # noqa: E402
from tests.benchmarks.core.queues import NOW, a_shape, full, mixed, nodes  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
WAITING = 10_000


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds: CPU of this process and of its backend together, and on the clock."""

    cpu: float
    clock: float
    cycle: Cycle


def timed(memory: Memory) -> Cost:
    connection.ensure_connection()
    backend = connection.connection.info.backend_pid
    cpu, wall, served = time.process_time(), time.monotonic(), _backend_cpu(backend)
    cycle = tick(memory)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    return Cost(cpu + _backend_cpu(backend) - served, wall, cycle)


def _backend_cpu(pid: int) -> float:
    """CPU seconds of the PostgreSQL process that serves us; it runs on this machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def tell(what: str, costs: list[Cost], target: str = "") -> None:
    cpu, wall = [c.cpu for c in costs], [c.clock for c in costs]
    done = costs[-1].cycle.outcome
    print(
        f"  {what:44s} {median(cpu):6.3f} s CPU ({min(cpu):.3f} to {max(cpu):.3f}), {median(wall):6.3f} s on the clock "
        f"({min(wall):.3f} to {max(wall):.3f}); last: {done.placed} placed, {done.claimed} claims, "
        f"{costs[-1].cycle.waiting} waited{f'; target {target}' if target else ''}",
        flush=True,
    )


def put(cluster: Cluster) -> None:
    call_command("migrate", verbosity=0)
    store(cluster, now=clock.now(), at=NOW)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


# ------------------------------------------------------------------------------------------------- long queues
def long_queue(cluster: Cluster, rounds: int) -> None:
    put(cluster)
    memory = Memory()
    tell("the first, which reads everything", [timed(memory)])
    for _ in range(6):  # what a random start has upset settles: victims leave, claims are fulfilled
        leave(Job.objects.filter(state="stopping"))
        tick(memory)
        if not Claim.objects.exists():
            break
    surplus = Job.objects.filter(state="queued").order_by("-pk").values_list("pk", flat=True)[WAITING:]
    Job.objects.filter(pk__in=list(surplus)).update(
        state="cancelled", version=F("version") + 1, ended_at=clock.now(), end_reason=EndReason.CANCEL
    )
    tick(memory)
    tell("nothing changed", [timed(memory) for _ in range(rounds)], "0.5 s, load and commit included")
    random, costs = Random(5), []
    for _ in range(rounds):
        change(random, WAITING // 100)
        costs.append(timed(memory))
    tell("1 % of the queue new, 1 % cancelled, 20 ends", costs, "0.5 s")
    print(f"  read anew {memory.mirror.anew} time(s)")


def change(random: Random, many: int) -> None:
    """So many jobs come, as many are cancelled, and some runs end."""
    waiting = Job.objects.filter(state="queued").order_by("pk")
    gone = random.sample(list(waiting.values_list("pk", flat=True)), many)
    Job.objects.filter(pk__in=gone).update(
        state="cancelled", version=F("version") + 1, ended_at=clock.now(), end_reason=EndReason.CANCEL
    )
    models = list(waiting.exclude(pk__in=gone)[:many])
    for job in models:
        shape = a_shape(random)
        job.pk, job.version, job.submitted_at = None, 1, clock.now()
        job.gpus, job.replicas, job.cpu_millis, job.memory_mib = shape.gpus, shape.replicas, shape.cpu_millis, 1024
        job.hold_code, job.hold_numbers, job.terms = "", {}, {}
    Job.objects.bulk_create(models)
    leave(Job.objects.filter(pk__in=random.sample(list(running().values_list("pk", flat=True)), 20)))


def running():
    return Job.objects.filter(state="running").order_by("pk")


def leave(jobs) -> None:
    """They have ended and their containers are gone, as far as the scheduler can see it."""
    ids = list(jobs.values_list("pk", flat=True))
    live = Allocation.objects.filter(job__in=ids, released_at__isnull=True)
    Gpu.objects.filter(slots__in=live.values("slot")).update(held_units=0)
    Slot.objects.filter(held_by__in=ids).update(held_by=None, claimed_over=None)
    live.update(released_at=clock.now())
    Job.objects.filter(pk__in=ids).exclude(state__in=FINAL).update(
        state="succeeded", version=F("version") + 1, ended_at=clock.now(), end_reason=EndReason.SUCCEEDED
    )


# ------------------------------------------------------------------------------------------------- starts
def starts(rounds: int) -> None:
    put(Cluster(nodes=nodes(64)))
    _starts("400 jobs of one GPU, 64 nodes", 400, Shape(gpus=1, cpu_millis=1000, memory_mib=1024), rounds, "1 s")


def gang(rounds: int) -> None:
    put(Cluster(nodes=nodes(512)))
    whole = Shape(gpus=8, cpu_millis=8000, memory_mib=8192, replicas=512)
    _starts("512 replicas of 8 GPUs, 512 nodes", 1, whole, rounds, "2 s")


def _starts(what: str, many: int, shape: Shape, rounds: int, target: str) -> None:
    team = Team.objects.create(slug="red", name="Red")
    person = User.objects.create(username="alice")
    memory, costs, first = Memory(), [], None
    for _ in range(rounds):
        now = clock.now()
        jobs = Job.objects.bulk_create(
            Job(
                team=team,
                owner=person,
                kind="batch",
                name="work",
                image="x",
                limit=timedelta(hours=1),
                gpus=shape.gpus,
                replicas=shape.replicas,
                cpu_millis=shape.cpu_millis,
                memory_mib=shape.memory_mib,
                preemptible=True,
                submitted_at=now,
                since_at=now,
            )
            for _ in range(many)
        )
        cost = timed(memory)
        assert cost.cycle.outcome.placed == many, cost
        if first is None:
            first = cost
        else:
            costs.append(cost)
        leave(Job.objects.filter(pk__in=[job.pk for job in jobs]))
        tick(memory)
    tell(f"{what}, the first time", [first], target)
    tell(f"{what}, again", costs, target)


CASES: dict[str, Callable[[int], None]] = {
    "full": lambda rounds: long_queue(full(1000, WAITING), rounds),
    "mixed": lambda rounds: long_queue(mixed(1000, 13_500), rounds),
    "starts": starts,
    "gang": gang,
}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    # Waking agents is measured elsewhere; here nobody listens, and machines that nobody speaks for are taken as well.
    wiring.use(
        replace(wiring.wired(), wake_node=lambda node: None, hint_tick=lambda: None, silent_after=timedelta(days=1))
    )
    CASES[sys.argv[1]](int(sys.argv[2]))
