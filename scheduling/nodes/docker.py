"""The real driver: a Docker Engine on this machine. `engine/options.py` says what a container may and may not do.

Long because the verbs share one picture of what the engine has; how each is done stands in `engine/`.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from docker.errors import APIError

from portal.kernel import clock
from scheduling.nodes.driver import (
    ContainerSpec,
    DriverError,
    Inventory,
    LaunchRefused,
    NodeUnreachable,
    NotYetGone,
    Observation,
    Phase,
    ProgressSink,
    Sample,
)
from scheduling.nodes.engine.answers import engine_answers as engine_answers
from scheduling.nodes.engine.client import Engine, NotFound, raise_if_passing, refusing, said
from scheduling.nodes.engine.devices import runtime_note
from scheduling.nodes.engine.endings import LOG_LINES, ending, start_refusal
from scheduling.nodes.engine.firewall import Firewall
from scheduling.nodes.engine.images import Abandoned, Attempt, Images
from scheduling.nodes.engine.names import ALLOCATION, PORT, SITE, Names, is_plain
from scheduling.nodes.engine.network import Networks
from scheduling.nodes.engine.options import bind, create_options
from scheduling.nodes.engine.owners import in_containers
from scheduling.nodes.engine.starting import refuse_if_it_cannot_run
from scheduling.nodes.engine.turns import Turns
from scheduling.nodes.gpus import GpuSource
from scheduling.nodes.health import Reading
from scheduling.nodes.volumes import Volumes

log = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CHECK_NETWORK_EVERY_S = 5.0
#: longer than an engine needs to let go of a pull or to finish one create
_WAIT_FOR_LAUNCH_S = 20.0


class DockerDriver:
    """Six verbs over one engine. Containers are found by label, never by memory: a restart of ours loses none."""

    name = "docker"

    def __init__(
        self, *, base_url: str | None, data: Path, site: str, gpus: GpuSource, open_networks: Sequence[str] = ()
    ) -> None:
        self._names = Names(site)
        self._gpus = gpus
        self._engine = Engine(base_url)
        self._firewall = Firewall(self._names, open_networks=open_networks)
        self._networks = Networks(self._engine, self._names, self._firewall)
        self._images = Images(self._engine)
        self._volumes = Volumes(data)
        self._turns = Turns()
        self._attempts: dict[str, list[Attempt]] = {}
        self._lock = threading.Lock()
        self._endings: dict[str, Observation] = {}  # container id -> what was read of it once: it cannot change
        self._network_checked_at: float | None = None
        self._closed = False

    # -- what the node is ---------------------------------------------------------------------------------------------

    def inventory(self) -> Inventory:
        with self._engine.answering() as api:
            info = api.info()
            images = sorted({tag for image in api.images() for tag in image.get("RepoTags") or ()} - {"<none>:<none>"})
        gpus = self._gpus.inventory()
        notes = [
            *self._gpus.notes(),
            self._firewall.missing() if self._network_checked_at is not None else None,
            runtime_note(info) if any(not gpu.simulated for gpu in gpus) else None,
            *(info.get("Warnings") or ()),
        ]
        return Inventory(
            cpu_millis=int(info["NCPU"]) * 1000,
            memory_mib=int(info["MemTotal"]) // 2**20,
            gpus=gpus,
            boot_id=_BOOT_ID.read_text().strip(),
            driver=self.name,
            notes=tuple(note for note in notes if note),
            images=tuple(images),
            driver_version=self._gpus.driver_version(),
            engine=f"Docker {info.get('ServerVersion', '')}".strip(),
            runtimes=tuple(sorted(info.get("Runtimes") or ())),
            cgroup_driver=str(info.get("CgroupDriver") or ""),
        )

    def sample(self) -> Sequence[Sample]:
        return self._gpus.sample()

    def gpu_health(self) -> tuple[Reading, ...] | None:
        """As `WatchesGpus` says."""
        with self._engine.answering():
            return in_containers(self._gpus.health(), self._mine)

    def check_network(self) -> None:
        """Make the firewall stand. Raises LaunchRefused("firewall-missing") where it cannot."""
        self._firewall.ensure()
        self._network_checked_at = clock.monotonic()

    # -- launch -------------------------------------------------------------------------------------------------------

    def launch(self, spec: ContainerSpec, *, progress: ProgressSink) -> None:
        _refuse_odd_names(spec)
        with self._attempt(spec.allocation) as attempt, self._turns.of(spec.allocation), self._engine.answering():
            try:
                attempt.check()
                self._launch(spec, attempt, progress)
            except (Abandoned, LaunchRefused) as refusal:
                with contextlib.suppress(NotYetGone):  # then observe() goes on showing it, and it is stopped
                    self._remove(spec.allocation)
                if isinstance(refusal, LaunchRefused):
                    raise
                raise LaunchRefused("abandoned", "The launch was given up because it was asked to stop.") from None

    def _launch(self, spec: ContainerSpec, attempt: Attempt, progress: ProgressSink) -> None:
        """1. Already there?  2. Wall up.  3. Image here.  4. Network, volumes.  5. Create.  6. Start."""
        found = self._find(spec.allocation)
        if found is not None and found["State"] != "created":
            return
        self.check_network()
        if found is None:
            self._images.ensure(spec.image, attempt=attempt, progress=progress)
            self._create(spec)
            attempt.check()
        else:
            self._networks.ensure(team=spec.team, egress=spec.egress)
        self._start(spec)

    def _create(self, spec: ContainerSpec) -> None:
        network = self._networks.ensure(team=spec.team, egress=spec.egress)
        passwd, group = self._volumes.identity(spec)
        mounts = [bind(passwd, "/etc/passwd", read_only=True), bind(group, "/etc/group", read_only=True)]
        for mount in spec.mounts:
            source = self._volumes.ensure(mount, uid=spec.uid, gid=spec.gid)
            mounts.append(bind(source, mount.target, read_only=mount.read_only))
        api = self._engine.api
        info = api.info() if any(not device.simulated for device in spec.devices) else {}
        options = create_options(api, spec, names=self._names, network=network, mounts=mounts, info=info)
        with refusing("create-refused", "the container"):
            api.create_container(**options)

    def _start(self, spec: ContainerSpec) -> None:
        container = self._names.container(spec.allocation)
        try:
            self._engine.api.start(container)
            refuse_if_it_cannot_run(self._engine, container, allocation=spec.allocation)
        except APIError as error:
            raise_if_passing(error)
            program = spec.command[0] if spec.command else ""
            raise start_refusal(said(error), image=spec.image, command=program) from error

    # -- stop ---------------------------------------------------------------------------------------------------------

    def stop(self, allocation: str, *, grace_s: int) -> None:
        with self._lock:
            attempts = list(self._attempts.get(allocation, ()))
        for attempt in attempts:
            attempt.abandon()
        with self._turns.of(allocation, wait_s=_WAIT_FOR_LAUNCH_S + grace_s) as held, self._engine.answering() as api:
            if not held:
                raise NotYetGone("still-launching", "The launch that is to be given up has not ended yet.")
            for container in self._mine(allocation):
                with contextlib.suppress(APIError):  # removing by force has the last word
                    if container["State"] in ("running", "paused", "restarting"):
                        api.stop(container["Id"], timeout=grace_s)
            self._remove(allocation)
            if self._mine(allocation):
                raise NotYetGone("removing", "The engine is still removing the container.")

    def _remove(self, allocation: str) -> None:
        """Every trace of the allocation but its volumes; with the anonymous volumes that its image made."""
        for container in self._mine(allocation):
            try:
                self._engine.api.remove_container(container["Id"], v=True, force=True)
            except NotFound:
                continue
            except APIError as error:
                raise NotYetGone("removing", f"The container is not gone yet: {said(error)}.") from error
            self._endings.pop(container["Id"], None)

    # -- look ---------------------------------------------------------------------------------------------------------

    def observe(self) -> Sequence[Observation]:
        # Launches first, containers second: one that moves from the former to the latter in between is seen either way.
        with self._lock:
            under_way = {allocation: attempts[0] for allocation, attempts in self._attempts.items()}
        with self._engine.answering():
            seen = {container["Labels"][ALLOCATION]: self._observation(container) for container in self._mine()}
            if seen:
                self._keep_network()
        for allocation, attempt in under_way.items():
            if allocation not in seen:
                phase = Phase.STARTING if attempt.progress is None else Phase.PULLING
                seen[allocation] = Observation(allocation, phase, progress=attempt.progress, started=False)
        self._endings = {key: known for key, known in self._endings.items() if known.allocation in seen}
        return [seen[allocation] for allocation in sorted(seen)]

    def logs(self, allocation: str, *, tail: int) -> Iterator[bytes]:
        with self._engine.answering() as api:
            text = b""
            for container in self._mine(allocation):
                with contextlib.suppress(NotFound):
                    text += api.logs(container["Id"], stdout=True, stderr=True, tail=tail)
        return iter(text.splitlines(keepends=True))

    def _observation(self, container: dict[str, Any]) -> Observation:
        allocation, state = container["Labels"][ALLOCATION], container["State"]
        if state in ("exited", "dead", "removing"):
            return self._ending(allocation, container["Id"])
        address = None
        networks = container["NetworkSettings"]["Networks"].values()
        if state in ("running", "paused"):
            port = int(container["Labels"].get(PORT, "0"))
            addresses = [network["IPAddress"] for network in networks if network["IPAddress"]]
            address = (addresses[0], port) if addresses and port else None
        return Observation(
            allocation=allocation,
            phase=Phase.STARTING,
            address=address,
            image_digest=container["ImageID"],
            started=state != "created",
        )

    def _ending(self, allocation: str, container_id: str) -> Observation:
        known = self._endings.get(container_id)
        if known is None:
            try:
                found = self._engine.api.inspect_container(container_id)
                last_lines = self._engine.api.logs(container_id, stdout=True, stderr=True, tail=LOG_LINES)
            except NotFound:  # removed since it was listed; the next look will not show it
                return Observation(allocation=allocation, phase=Phase.EXITED)
            known = ending(
                allocation,
                found["State"],
                image=found["Config"]["Image"],
                memory_bytes=found["HostConfig"]["Memory"],
                log=last_lines,
                engine_started_at=self._engine.started_at(),
            )
            self._endings[container_id] = known
        return known

    def _keep_network(self) -> None:
        """Look after the firewall while containers run. A failure is said, not raised: the next launch is refused."""
        checked = self._network_checked_at
        if checked is not None and clock.monotonic() - checked < _CHECK_NETWORK_EVERY_S:
            return
        self._network_checked_at = clock.monotonic()
        if gone := self._firewall.missing():
            log.warning("firewall: %s Putting it up again.", gone)
            try:
                self._firewall.ensure()
            except LaunchRefused as refusal:
                log.error("firewall: %s", refusal.message)

    def _find(self, allocation: str) -> dict[str, Any] | None:
        return next(iter(self._mine(allocation)), None)

    def _mine(self, allocation: str = "") -> list[dict[str, Any]]:
        labels = [f"{SITE}={self._names.site}", f"{ALLOCATION}={allocation}" if allocation else ALLOCATION]
        found: list[dict[str, Any]] = self._engine.api.containers(all=True, filters={"label": labels})
        return found

    @contextlib.contextmanager
    def _attempt(self, allocation: str) -> Iterator[Attempt]:
        attempt = Attempt()
        with self._lock:
            if self._closed:  # the wall may be coming down
                raise NodeUnreachable("closing", "The node is going down and starts nothing more.")
            self._attempts.setdefault(allocation, []).append(attempt)
        try:
            yield attempt
        finally:
            with self._lock:
                self._attempts[allocation].remove(attempt)
                if not self._attempts[allocation]:
                    del self._attempts[allocation]

    def close(self) -> None:
        """Leave the engine. With no container left, its networks and firewall rules go too: the host is as it was."""
        with self._lock:
            self._closed = True
            launching = bool(self._attempts)
        with contextlib.suppress(DriverError), self._engine.answering():
            if not launching and not self._mine():
                self._networks.sweep()
                self._firewall.remove()
        self._engine.close()


def _refuse_odd_names(spec: ContainerSpec) -> None:
    """They end up in container, network and folder names. What a portal sends is plain: this is a bug's last stop."""
    for what, name in (("an allocation", spec.allocation), ("a team", spec.team)):
        if not is_plain(name):
            raise LaunchRefused("odd-name", f"{name!r} cannot be the name of {what}.")
    if spec.egress not in ("none", "open"):
        raise LaunchRefused("egress-unknown", f"This node does not know the way out called {spec.egress!r}.")
