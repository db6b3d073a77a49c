"""`berth-agent`: the node agent as a process of its own. No Django, no database, no secret but its nodes' own keys."""

import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scheduling.nodes import gpus, machine, preflight
from scheduling.nodes.agent import Agent
from scheduling.nodes.driver import Driver, Inventory
from scheduling.nodes.engine.answers import engine_answers
from scheduling.nodes.exchange import Desired, Exchange, HttpExchange, Report
from scheduling.nodes.lease import Broken, Lease, boot_id
from scheduling.nodes.lines import Lines
from scheduling.nodes.lines import Seat as LineSeat
from scheduling.nodes.membership import Membership, NotAMember, Seat, StateFolder
from scheduling.nodes.options import BadOption, Options, read_options
from scheduling.nodes.portal_client import BadAddress, NotAnswered, PortalClient
from scheduling.nodes.simulated import SimulatedDriver
from scheduling.nodes.wakes import Wakes

log = logging.getLogger("berth.agent")

#: a simulated node's machine, per GPU: what an eight-GPU server has for each
SIMULATED_CPU_MILLIS, SIMULATED_MEMORY_MIB = 16_000, 256 * 1024
LINES = 4  # that a node keeps idle to each gateway: a page opens about six connections, and each takes one
START_WITHIN_S = 2.0  # many agents of one process begin one after the other


class CannotRun(Exception):
    """The agent cannot do its work on this machine; the message says what to change."""


def main() -> int:
    """The console script. Answers the exit code: 0 after a signal, 1 with one sentence when it cannot run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    try:
        options = read_options(sys.argv[1:], os.environ)
        if options.command == "preflight":
            return _preflight(options)
        return run(options)
    except (BadOption, NotAMember, BadAddress, Broken, CannotRun, NotAnswered, machine.BadLabels) as refusal:
        print(f"berth-agent: {refusal}", file=sys.stderr)
        return 1


def run(options: Options) -> int:
    """Enrol if asked to, then run until SIGTERM or SIGINT. Containers stay; the next start adopts them."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    folder = StateFolder(options.state)
    folder.claim()
    membership = _join(folder, options) if options.join else folder.membership()
    ca = options.ca or (Path(membership.ca) if membership.ca else None)
    lines = Lines(ca_file=ca, idle=LINES if len(membership.seats) == 1 else 1)
    agents = list(_agents(folder, membership, options, lines, ca))
    lines.start()
    log.info("speaking for %s at %s", _names(membership.seats), membership.url)
    for agent in agents:
        agent.start()
        if told.wait(START_WITHIN_S / len(agents) if len(agents) > 1 else 0):
            break
    told.wait()
    log.info("stopping; containers go on while their lease lasts, and the next start takes them over")
    lines.stop()
    for agent in agents:
        agent.stop()
    return 0


def _join(folder: StateFolder, options: Options) -> Membership:
    assert options.join is not None
    url, token = options.join
    if token == "-":
        token = sys.stdin.readline().strip()
    # Before the token is used up; and labels better now than as a note on the node's page.
    if options.driver == "docker" and not options.simulated and (trouble := engine_answers(options.docker_host)):
        raise CannotRun(f"{trouble} `berth-agent preflight` says all that this machine lacks.")
    if options.labels is not None:
        machine.read_labels(options.labels)
    membership = folder.join(url, token, ca=options.ca, simulated=options.simulated)
    log.info("joined %s as %s", membership.url, _names(membership.seats))
    return membership


def _names(seats: Sequence[Seat]) -> str:
    names = [seat.node for seat in seats]
    return ", ".join(names) if len(names) < 4 else f"{names[0]} to {names[-1]} ({len(names)} nodes)"


def _agents(
    folder: StateFolder, membership: Membership, options: Options, lines: Lines, ca: Path | None
) -> Iterator[Agent]:
    process = secrets.token_hex(16)
    boot, site = boot_id(), folder.site()
    described = machine.Machine(volumes=folder.path / "volumes", labels=options.labels)
    for seat in membership.seats:
        lease = Lease(folder.lease_file(seat.node), boot=boot)
        exchange = HttpExchange(
            PortalClient(membership.url, ca_file=ca), key=seat.key, agent=process, start=lease.start
        )
        # One worker for a machine; a host of many simulated nodes has no room for as many.
        reached = Reached(exchange, lines, seat, woken=not membership.simulated, ca_file=ca)
        if membership.simulated:
            driver: Driver = _simulated(site, seat.node, boot, count=options.simulated_gpus)
            agent = Agent(node=seat.node, driver=driver, exchange=reached, lease=lease, workers=2)
        else:
            driver = _real(folder, site, options)
            agent = Agent(node=seat.node, driver=driver, exchange=reached, lease=lease, describe=described.describe)
        reached.agent = agent
        yield agent


class Reached:
    """An exchange by whose answers the node is also reached: lines to the gateways that they name, wakes from the
    broker that they grant. `agent` is set once it is made, for it is made with this."""

    def __init__(self, exchange: Exchange, lines: Lines, seat: Seat, *, woken: bool, ca_file: Path | None) -> None:
        self.agent: Agent | None = None
        self._exchange = exchange
        self._lines = lines
        self._seat = LineSeat(node=seat.node, key=seat.key, lookup=self._address)
        self._wakes = Wakes(node=seat.node, wake=self._wake, ca_file=ca_file) if woken else None

    def __call__(self, report: Report) -> Desired:
        if self._wakes is not None and not self._wakes.is_listening():
            report = replace(report, unwoken=True)
        desired = self._exchange(report)
        self._lines.use(self._seat, desired.gateways)
        if desired.broker and self._wakes is not None:
            self._wakes.use(desired.broker)
        return desired

    def _wake(self) -> None:
        if self.agent:
            self.agent.wake()

    def _address(self, allocation: str) -> tuple[str, int] | None:
        return self.agent.address(allocation) if self.agent else None


def _simulated(site: str, node: str, boot: str, *, count: int) -> Driver:
    count = count or 8
    cards = gpus.SimulatedGpus(count, site=f"{site}/{node}")
    inventory = Inventory(
        cpu_millis=count * SIMULATED_CPU_MILLIS,
        memory_mib=count * SIMULATED_MEMORY_MIB,
        gpus=cards.inventory(),
        boot_id=boot,
        driver="simulated",
        notes=("This node is simulated: nothing runs on it.",),
    )
    return SimulatedDriver(inventory=inventory, serve=True)


def _real(folder: StateFolder, site: str, options: Options) -> Driver:
    cards = gpus.detect(simulated=options.simulated_gpus, site=site)
    if options.driver == "docker":
        if trouble := engine_answers(options.docker_host):
            log.warning("%s The node says so to the portal and waits.", trouble)
        from scheduling.nodes.docker import DockerDriver  # the SDK costs 20 MB that only this driver needs

        return DockerDriver(
            base_url=options.docker_host,
            data=folder.path,
            site=site,
            gpus=cards,
            open_networks=options.open_networks,
        )
    from scheduling.nodes.process import ProcessDriver

    return ProcessDriver(data=folder.path, site=site, gpus=cards, lab_python=options.lab_python)


# -- preflight --------------------------------------------------------------------------------------------------------
def _preflight(options: Options) -> int:
    """Print what this machine lacks. 1 if the agent cannot run."""
    findings = preflight.judge(look(options))
    if options.labels is not None:
        machine.read_labels(options.labels)
    print(preflight.report(findings))
    return 1 if any(finding.level == "obstacle" for finding in findings) else 0


def look(options: Options) -> preflight.Facts:
    """Everything that preflight judges by, as this machine is now."""
    nvml = gpus.NvmlGpus()
    cards = nvml.inventory()
    devices, linked = preflight.nvidia_devices()
    trouble: str | None = None
    info: dict[str, Any] = {}
    cdi = frozenset[str]()
    if options.driver == "docker":
        from scheduling.nodes.engine.devices import cdi_devices

        trouble, info = preflight.engine_facts(options.docker_host)
        cdi = cdi_devices(info)
    writable = os.access(next(path for path in (options.state, *options.state.parents) if path.exists()), os.W_OK)
    return preflight.Facts(
        driver=options.driver,
        engine_trouble=trouble,
        info=info,
        gpus=cards,
        gpu_notes=nvml.notes() if cards or devices else (),
        cdi=cdi,
        device_nodes=devices,
        linked=linked,
        disk_free_mib=machine.disk_mib(options.state)[1],
        state_folder_trouble="" if writable else f"The agent's folder {options.state} cannot be written.",
        lab_python=preflight.has_python(options.lab_python),
    )


if __name__ == "__main__":
    sys.exit(main())
