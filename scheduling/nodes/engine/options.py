"""From a ContainerSpec to the engine's create request: everything that a workspace may and may not do, on one page."""

import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.types import LogConfig, Mount, Ulimit

from scheduling.nodes.driver import ContainerSpec, addresses_of
from scheduling.nodes.engine.devices import requests_for, visible_env
from scheduling.nodes.engine.names import ALLOCATION, JOB, PORT, SITE, TEAM, Names

_NOFILE = 65_536


def bind(source: Path, target: str, *, read_only: bool) -> Mount:
    """A mount of ours. Unlike `-v`, one whose source is missing is an error, not a new folder that belongs to root."""
    return Mount(target=target, source=str(source), type="bind", read_only=read_only)


def create_options(
    api: APIClient, spec: ContainerSpec, *, names: Names, network: str, mounts: Sequence[Mount], info: dict[str, Any]
) -> dict[str, Any]:
    """Keyword arguments for the SDK's create_container. `info` is the engine's description of itself."""
    nofile = min(_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[1])  # the engine may not give more than it has
    host = api.create_host_config(
        network_mode=network,
        # Without a way out the engine must not look names up for the container either: that leaks data in the names.
        dns=["127.0.0.1"] if spec.egress == "none" else None,
        mounts=list(mounts),
        # Without a volume the home is the container's own, in its memory; the engine would make it root's.
        tmpfs=None if any(mount.target == spec.home for mount in spec.mounts) else {spec.home: _private(spec)},
        init=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        ipc_mode="private",
        mem_limit=spec.memory_mib * 2**20,
        memswap_limit=spec.memory_mib * 2**20,  # equal: no swap, so that one workspace cannot slow the whole node down
        nano_cpus=spec.cpu_millis * 1_000_000,
        pids_limit=spec.pids,
        shm_size=spec.shm_mib * 2**20,
        ulimits=[Ulimit(name="nofile", soft=nofile, hard=nofile), Ulimit(name="core", soft=0, hard=0)],
        log_config=LogConfig(type="json-file", config={"max-size": "10m", "max-file": "2"}),
        device_requests=requests_for(spec.devices, info),
        restart_policy={"Name": "no"},
    )
    return {
        "image": spec.image,
        "name": names.container(spec.allocation),
        "hostname": f"w-{spec.allocation[:12].strip('-_.')}",
        "user": f"{spec.uid}:{spec.gid}",  # forced, whatever user the image asks for
        "working_dir": spec.home,
        # As entrypoint: the image's own one may expect to be root, and would only add to the start.
        "entrypoint": list(spec.command) or None,
        "environment": environment(spec, info),
        "labels": {SITE: names.site, ALLOCATION: spec.allocation, JOB: spec.job, TEAM: spec.team, PORT: str(spec.port)},
        "host_config": host,
        "networking_config": _named(api, network, alias(spec, spec.replica)) if spec.peers else None,
        "use_config_proxy": False,  # the host's proxy settings may hold a password
    }


def _private(spec: ContainerSpec) -> str:
    return f"uid={spec.uid},gid={spec.gid},mode=0700,exec"


def _named(api: APIClient, network: str, name: str) -> Any:
    # The stubs of the SDK know one endpoint; it takes, and the engine wants, one for each network.
    return api.create_networking_config({network: api.create_endpoint_config(aliases=[name])})  # type: ignore[arg-type]


def alias(spec: ContainerSpec, replica: int) -> str:
    """The name by which the replicas of a job on one machine find each other."""
    return f"job-{spec.job}-{replica}"


def environment(spec: ContainerSpec, info: dict[str, Any]) -> dict[str, str]:
    """What the job asked for, overruled by what only the node may say."""
    return {
        **dict(spec.env),
        "HOME": spec.home,
        "USER": spec.user,
        "LOGNAME": spec.user,
        "BERTH_ALLOCATION": spec.allocation,
        "BERTH_JOB": spec.job,
        "BERTH_PORT": str(spec.port),
        **visible_env(spec.devices, info),
        **addresses_of(spec, here=lambda replica: alias(spec, replica)),
    }
