"""A node as its agent describes it: rows for the machine, its GPUs and slots, and the latest reading of each GPU."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from django.core.cache import cache
from django.db import transaction

from portal.kernel.publish import publish
from scheduling.core.units import GPU_UNITS
from scheduling.models import Allocation, Gpu, Node, Pool, Slot, SlotKind
from scheduling.nodes.driver import GpuInfo, Inventory, Sample

#: a reading older than this says nothing about now
SAMPLE_GOOD_FOR_S = 30
_CPU_POOL, _GPU_POOL = "cpu", "gpu"


@transaction.atomic
def record_inventory(name: str, inventory: Inventory, *, now: datetime) -> Node:
    """Make the rows match what the machine has. A GPU that is held is never retired, whatever the inventory says."""
    pool, _ = Pool.objects.get_or_create(name=_GPU_POOL if inventory.gpus else _CPU_POOL)
    facts = {
        "driver": inventory.driver,
        "cpu_millis": inventory.cpu_millis,
        "memory_mib": inventory.memory_mib,
        "boot_id": inventory.boot_id,
        "notes": list(inventory.notes),
        "images": list(inventory.images),
    }
    node, _ = Node.objects.update_or_create(name=name, defaults={**facts, "pool": pool})
    for gpu in inventory.gpus:
        _record_gpu(node, gpu)
    held = Allocation.objects.filter(node=node, released_at__isnull=True, slot__isnull=False)
    absent = Gpu.objects.filter(node=node, retired_at__isnull=True).exclude(uuid__in=[g.uuid for g in inventory.gpus])
    absent.exclude(pk__in=held.values("slot__gpu_id")).update(retired_at=now)
    publish("node", node.pk)
    return node


def _record_gpu(node: Node, gpu: GpuInfo) -> None:
    facts = {
        "node": node,
        "index": gpu.index,
        "model": gpu.model,
        "memory_mib": gpu.memory_mib,
        "simulated": gpu.simulated,
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


def record_samples(samples: Sequence[Sample]) -> None:
    """Keep the latest reading of each GPU; history comes with the telemetry of a cluster."""
    cache.set_many({_key(sample.gpu_uuid): asdict(sample) for sample in samples}, SAMPLE_GOOD_FOR_S)


def latest_samples(uuids: Sequence[str]) -> dict[str, Sample]:
    """The latest reading by GPU UUID; a GPU without a recent one is absent."""
    found = cache.get_many([_key(uuid) for uuid in uuids])
    return {facts["gpu_uuid"]: Sample(**facts) for facts in found.values()}


def _key(uuid: str) -> str:
    return f"gpu-sample-{uuid}"
