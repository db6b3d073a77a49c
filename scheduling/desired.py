"""What a node should run, as its agent reads it: every live allocation of the node, with its container's recipe."""

from collections import defaultdict
from collections.abc import Mapping

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


#: Run by sh with the script as its first argument. A file, because the kernel takes an interpreter's line from no
#: other; gone with the container.
_LOADER = 'f=$(mktemp) && printf %s "$1" >"$f" && chmod 700 "$f" && shift && exec "$f" "$@"'


def desired_for(node: Node) -> Desired:
    """The node's whole desired state, in two queries, or three where there are gangs."""
    live = Allocation.objects.filter(node=node, released_at__isnull=True).select_related(
        "job__team", "job__owner", "slot__gpu"
    )
    parts: dict[tuple[int, int, int], list[Allocation]] = defaultdict(list)
    for allocation in live.order_by("id"):
        parts[allocation.job_id, allocation.attempt, allocation.part].append(allocation)
    whole = [rows for rows in parts.values() if rows[0].lead]
    peers = _peers({rows[0].job_id for rows in whole if rows[0].job.replicas > 1})
    return Desired(version=node.desired_version, parts=tuple(_part(rows, peers) for rows in whole))


def _peers(gangs: set[int]) -> dict[tuple[int, int], tuple[str, ...]]:
    """The node of each replica, by job and attempt."""
    names: dict[tuple[int, int], list[str]] = defaultdict(list)
    if gangs:
        leads = Allocation.objects.filter(job__in=gangs, lead=True, released_at__isnull=True).order_by("part")
        for job, attempt, name in leads.values_list("job_id", "attempt", "node__name"):
            names[job, attempt].append(name)
    return {key: tuple(there) for key, there in names.items()}


def _part(rows: list[Allocation], peers: Mapping[tuple[int, int], tuple[str, ...]]) -> DesiredPart:
    lead, job = rows[0], rows[0].job
    state = JobState(job.state)
    return DesiredPart(
        spec=_spec(job, lead, rows, peers.get((job.pk, lead.attempt), ())),
        run=state in HOLDING and state is not JobState.STOPPING,
        launched=lead.phase in _SEEN,
    )


def _program(job: Job) -> tuple[str, ...]:
    """What the container runs. A script without an interpreter's line is one for sh."""
    if not job.script:
        return tuple(job.command)
    if job.script.startswith("#!"):
        return ("/bin/sh", "-c", _LOADER, "script", job.script, *job.command)
    return ("/bin/sh", "-c", job.script, "script", *job.command)


def _spec(job: Job, lead: Allocation, rows: list[Allocation], peers: tuple[str, ...]) -> ContainerSpec:
    slots = [row.slot for row in rows if row.slot is not None]
    user = f"u{job.owner.uid}"
    home = f"/home/{user}"
    env = {
        **{str(name): str(value) for name, value in job.env.items()},
        "BERTH_TOKEN": wired().server_token(lead.pk),
        "BERTH_PORT": str(job.port),
        "BERTH_ALLOCATION": str(lead.pk),
        "BERTH_JOB": str(job.pk),
        "BERTH_JOB_ID": str(job.pk),
        "BERTH_ATTEMPT": str(lead.attempt),
        "BERTH_REPLICA": str(lead.part),
        "BERTH_REPLICAS": str(job.replicas),
        **_task(job),
        "HOME": home,
        "USER": user,
    }
    return ContainerSpec(
        allocation=str(lead.pk),
        job=str(job.pk),
        team=job.team.slug,
        image=job.image,
        command=_program(job),
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
        replica=lead.part,
        peers=peers,
        grace_s=wired().policy.grace_s if job.end_reason == EndReason.EVICT else _GRACE_S,
    )


def _task(job: Job) -> dict[str, str]:
    if job.array_id is None:
        return {}
    return {"BERTH_ARRAY_ID": str(job.array_id), "BERTH_ARRAY_INDEX": str(job.array_index)}
