"""One bridge per team and way out: teammates meet on it, nobody else does, and the firewall stands before it does."""

import threading
from typing import Any

from docker.errors import APIError

from portal.kernel import clock
from scheduling.nodes.driver import LaunchRefused
from scheduling.nodes.engine.client import Engine, NotFound, refusing, said
from scheduling.nodes.engine.firewall import Firewall
from scheduling.nodes.engine.names import EGRESS, SITE, TEAM, Names

APPEARS_S = 5.0
#: what an engine says to whoever comes second
_TAKEN = ("same bridge name", "already exists")


class Networks:
    """Makes and finds the site's Docker networks. A bridge outlives its last container: the next one starts sooner."""

    def __init__(self, engine: Engine, names: Names, firewall: Firewall) -> None:
        self._engine = engine
        self._names = names
        self._firewall = firewall
        self._lock = threading.Lock()

    def ensure(self, *, team: str, egress: str) -> str:
        """The name of the team's network, made when missing, behind a firewall that stands. Raises LaunchRefused."""
        name, bridge = self._names.network(team, egress), self._names.bridge(team, egress)
        with self._lock:
            self._firewall.ensure(bridge=bridge)
            found = self._find(name)
            if found is None:
                self._create(name=name, bridge=bridge, team=team, egress=egress)
            elif found["Options"].get("com.docker.network.bridge.name") != bridge or found["Internal"] != (
                egress == "none"
            ):
                raise LaunchRefused(
                    "network-conflict",
                    f"A Docker network named {name} exists that Berth did not make like this; an admin must remove it.",
                )
        return name

    def sweep(self) -> None:
        """Remove the site's networks that no container uses, so that other teams can get their address ranges."""
        with self._lock:
            self._sweep()

    def _sweep(self) -> None:
        used = {
            container["HostConfig"]["NetworkMode"]
            for container in self._engine.api.containers(all=True, filters={"label": f"{SITE}={self._names.site}"})
        }
        for network in self._engine.api.networks(filters={"label": f"{SITE}={self._names.site}"}):
            if network["Name"] not in used:
                try:
                    self._engine.api.remove_network(network["Id"])
                except APIError:
                    continue  # a container joined it in this moment, or it is gone already

    def _find(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._engine.api.inspect_network(name)
        except NotFound:
            return None
        return found if found["Labels"].get(SITE) == self._names.site else {**found, "Options": {}}

    def _appears(self, name: str) -> bool:
        """An engine finishes a creation whose caller was killed: it holds the bridge before it shows the network."""
        until = clock.monotonic() + APPEARS_S
        while clock.monotonic() < until:
            if self._find(name) is not None:
                return True
            threading.Event().wait(0.05)
        return False

    def _create(self, *, name: str, bridge: str, team: str, egress: str) -> None:
        for attempt in ("first", "after the sweep"):
            try:
                self._engine.api.create_network(
                    name,
                    driver="bridge",
                    internal=egress == "none",
                    attachable=False,
                    enable_ipv6=False,
                    check_duplicate=True,
                    options={"com.docker.network.bridge.name": bridge},
                    labels={SITE: self._names.site, TEAM: team, EGRESS: egress},
                )
                return
            except APIError as error:
                if attempt == "first" and "address pool" in said(error).lower():
                    self._sweep()
                    continue
                if any(words in said(error) for words in _TAKEN) and self._appears(name):
                    return
                with refusing("network-refused", f"the network of team {team}"):
                    if "address pool" in said(error).lower():
                        raise LaunchRefused(
                            "no-address",
                            "The node has no address range left for the team's network; an admin must "
                            "remove unused Docker networks or widen default-address-pools.",
                        ) from error
                    raise
