"""What a node should run, as its agent reads it: every live allocation of the node, with its container's recipe."""

from collections import defaultdict

from scheduling.core.lifecycle import HOLDING, EndReason, JobState
from scheduling.models import Allocation, Job, Node
from scheduling.nodes.driver import ContainerSpec, Device, Mount, Phase
from scheduling.nodes.exchange import Desired, DesiredPart
from scheduling.wiring import wired

_SEEN = {str(phase) for phase in (Phase.STARTING, Phase.READY, Phase.EXITED, Phase.GONE)}
#: below it a shared memory segment is too small for a PyTorch data loader, above it eats what the work itself needs
_SHM_SHARE = 4
#: from SIGTERM to SIGKILL when nobody waits for the place; an evicted job has the policy's grace to save its work
_GRACE_S = 10


def desired_for(node: Node) -> Desired:
    """The node's whole desired state, in two queries."""
    live = Allocation.objects.filter(node=node, released_at__isnull=True).select_related(
        "job__team", "job__owner", "slot__gpu"
    )
    parts: dict[tuple[int, int, int], list[Allocation]] = defaultdict(list)
    for allocation in live.order_by("id"):
        parts[allocation.job_id, allocation.attempt, allocation.part].append(allocation)
    return Desired(version=node.desired_version, parts=tuple(_part(rows) for rows in parts.values() if rows[0].lead))


def _part(rows: list[Allocation]) -> DesiredPart:
    lead, job = rows[0], rows[0].job
    state = JobState(job.state)
    return DesiredPart(
        spec=_spec(job, lead, rows),
        run=state in HOLDING and state is not JobState.STOPPING,
        launched=lead.phase in _SEEN,
    )


def _spec(job: Job, lead: Allocation, rows: list[Allocation]) -> ContainerSpec:
    slots = [row.slot for row in rows if row.slot is not None]
    user = f"u{job.owner.uid}"
    home = f"/home/{user}"
    env = {
        **{str(name): str(value) for name, value in job.env.items()},
        "BERTH_TOKEN": wired().server_token(lead.pk),
        "BERTH_PORT": str(job.port),
        "BERTH_ALLOCATION": str(lead.pk),
        "BERTH_JOB": str(job.pk),
        "HOME": home,
        "USER": user,
    }
    return ContainerSpec(
        allocation=str(lead.pk),
        job=str(job.pk),
        team=job.team.slug,
        image=job.image,
        command=tuple(job.command),
        env=tuple(sorted(env.items())),
        devices=tuple(Device(uuid=slot.device_uuid, simulated=slot.gpu.simulated) for slot in slots),
        layout_versions=tuple((slot.gpu.uuid, slot.layout_version) for slot in slots),
        cpu_millis=job.cpu_millis,
        memory_mib=job.memory_mib,
        shm_mib=max(64, job.memory_mib // _SHM_SHARE),
        uid=job.owner.uid,
        gid=job.team.gid,
        user=user,
        home=home,
        mounts=(Mount(volume=job.volume, target=home),) if job.volume else (),
        port=job.port,
        probe_path=job.probe_path,
        grace_s=wired().policy.grace_s if job.end_reason == EndReason.EVICT else _GRACE_S,
    )
