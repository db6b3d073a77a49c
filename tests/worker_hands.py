"""Hands in a process of a portal: does what it is told line by line, as JSON, and answers each with a line of JSON."""

import json
import sys
from datetime import timedelta

import django

django.setup()

from portal.kernel import clock  # noqa: E402
from scheduling import services  # noqa: E402
from scheduling.models import Gpu, Job, JobTransition, LoopRecord, Node, Pool, Slot  # noqa: E402
from tenants.models import Team, User  # noqa: E402
from tests.people import make_people  # noqa: E402


def build(cards: int) -> None:
    """Alice and her team, and one ready node."""
    make_people()
    pool = Pool.objects.create(name="gpu")
    node = Node.objects.create(name="n1", pool=pool, driver="simulated", cpu_millis=4_000_000, memory_mib=4_000_000)
    for i in range(cards):
        facts = {"index": i, "model": "Simulated GPU", "memory_mib": 81_920, "simulated": True}
        gpu = Gpu.objects.create(node=node, uuid=f"g{i}", **facts)
        Slot.objects.create(gpu=gpu, device_uuid=gpu.uuid)


def submit() -> tuple[int, float]:
    """(job, when its transaction was committed and the loop was hinted)."""
    Node.objects.update(seen_at=clock.now())
    spec = services.JobSpec(name="x", image="x", limit=timedelta(hours=1), gpus=1, cpu_millis=1000, memory_mib=1024)
    alice, red = User.objects.get(username="alice"), Team.objects.get(slug="red")
    job = services.submit_job(by=alice, team=red, spec=spec, now=clock.now())
    return job.pk, clock.now().timestamp()


def state(job: int) -> str:
    return str(Job.objects.get(pk=job).state)


def placed_at(job: int) -> float | None:
    """When the cycle began that placed it."""
    at = JobTransition.objects.filter(job=job, event="place").values_list("at", flat=True).first()
    return at.timestamp() if at else None


def leader() -> str | None:
    return LoopRecord.objects.filter(pk=1).values_list("leader", flat=True).first()


if __name__ == "__main__":
    known = {one.__name__: one for one in (build, submit, state, placed_at, leader)}
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(known[name](*arguments)), flush=True)
