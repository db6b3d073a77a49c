"""A node as its agent describes it: rows for the machine, its GPUs and slots, and the latest reading of each GPU."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime

from django.core.cache import caches
from django.db import transaction

from portal.kernel.publish import publish
from scheduling.core.units import GPU_UNITS
from scheduling.models import Allocation, Gpu, Node, Pool, Slot, SlotKind
from scheduling.nodes.driver import GpuInfo, Inventory, Sample
from scheduling.nodes.islands import islands_of
from scheduling.nodes.wire import encode

#: a reading older than this says nothing about now
SAMPLE_GOOD_FOR_S = 30
_CPU_POOL, _GPU_POOL = "cpu", "gpu"
ELSEWHERE = "GPU {gpu} is still listed on the node {node}, so it is not used here until that node reports without it."


@transaction.atomic
def record_inventory(name: str, inventory: Inventory, *, now: datetime, pool_name: str = "") -> Node:
    """Make the rows match what the machine has. A GPU that is held is never retired, whatever the inventory says, and
    none that another node has is taken from it. Without a pool's name, the pool is chosen by what the machine has."""
    pool_name = pool_name or (_GPU_POOL if inventory.gpus else _CPU_POOL)
    if known := _known_as_it_is(name, inventory, pool_name):
        return known
    pool, _ = Pool.objects.get_or_create(name=pool_name)
    elsewhere = _gpus_elsewhere(name, inventory)
    facts = {
        "driver": inventory.driver,
        "cpu_millis": inventory.cpu_millis,
        "memory_mib": inventory.memory_mib,
        "boot_id": inventory.boot_id,
        "notes": [*inventory.notes, *(ELSEWHERE.format(gpu=uuid, node=other) for uuid, other in elsewhere.items())],
        "facts": encode(replace(inventory, notes=(), images=())),
        "images": list(inventory.images),
    }
    node, _ = Node.objects.update_or_create(name=name, defaults={**facts, "pool": pool})
    islands = islands_of(inventory.gpus)
    for gpu in inventory.gpus:
        if gpu.uuid not in elsewhere:
            _record_gpu(node, gpu, islands[gpu.uuid])
    held = Allocation.objects.filter(node=node, released_at__isnull=True, slot__isnull=False)
    absent = Gpu.objects.filter(node=node, retired_at__isnull=True).exclude(uuid__in=[g.uuid for g in inventory.gpus])
    absent.exclude(pk__in=held.values("slot__gpu_id")).update(retired_at=now)
    publish("node", node.pk)
    return node


def _known_as_it_is(name: str, inventory: Inventory, pool_name: str) -> Node | None:
    """The node, if its rows say all of this already. Every node tells its inventory each minute, and news are rare."""
    node = Node.objects.select_related("pool").filter(name=name).first()
    if node is None or node.pool.name != pool_name:
        return None
    told: dict[str, object] = encode(replace(inventory, notes=(), images=()))
    free = {"disk_free_mib": told.get("disk_free_mib")}  # it never stands still
    same = {**node.facts, **free} == {**told, **free}
    if not same or node.notes != list(inventory.notes) or node.images != list(inventory.images):
        return None
    # As many as are told; fewer while one was retired, more while one that is absent is still held.
    here = Gpu.objects.filter(node=node, retired_at__isnull=True).values_list("uuid", "island")
    if dict(here) != islands_of(inventory.gpus):
        return None
    Node.objects.filter(pk=node.pk).update(facts=told)
    return node


def _gpus_elsewhere(name: str, inventory: Inventory) -> dict[str, str]:
    """GPUs that this node claims and another still has, with the other's name: what an agent says of a GPU must not
    move it away from under the work of others. A card that was moved is free once its old node reports without it."""
    others = Gpu.objects.filter(uuid__in=[gpu.uuid for gpu in inventory.gpus], retired_at__isnull=True)
    return dict(others.exclude(node__name=name).order_by("uuid").values_list("uuid", "node__name"))


def _record_gpu(node: Node, gpu: GpuInfo, island: int) -> None:
    facts = {
        "node": node,
        "index": gpu.index,
        "model": gpu.model,
        "memory_mib": gpu.memory_mib,
        "simulated": gpu.simulated,
        "island": island,
        "retired_at": None,
    }
    row, _ = Gpu.objects.update_or_create(uuid=gpu.uuid, defaults=facts)
    Slot.objects.get_or_create(
        gpu=row,
        kind=SlotKind.WHOLE,
        layout_version=row.layout_version,
        retired_at=None,
        defaults={"device_uuid": gpu.uuid, "units": GPU_UNITS},
    )


def record_samples(node: Node, samples: Sequence[Sample]) -> None:
    """Keep the latest reading of each of the node's GPUs; history comes with the telemetry of a cluster."""
    if not samples:
        return
    own = set(Gpu.objects.filter(node=node).values_list("uuid", flat=True))
    readings = {_key(sample.gpu_uuid): asdict(sample) for sample in samples if sample.gpu_uuid in own}
    caches["nodes"].set_many(readings, SAMPLE_GOOD_FOR_S)


def latest_samples(uuids: Sequence[str]) -> dict[str, Sample]:
    """The latest reading by GPU UUID; a GPU without a recent one is absent."""
    found = caches["nodes"].get_many([_key(uuid) for uuid in uuids])
    return {facts["gpu_uuid"]: Sample(**facts) for facts in found.values()}


def _key(uuid: str) -> str:
    return f"gpu-sample-{uuid}"
