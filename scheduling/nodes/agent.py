"""Makes one machine match its desired state: observe, exchange, diff, act, and again.

Everything it knows it can lose: after a restart it observes what the driver shows, fetches the desired state, adopts
what should run and removes what should not. What to do is decided in reconcile.py, which is pure.

Long because every thread here shares one memory under one lock, and who may touch it when is read best in one place.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from portal.kernel import clock
from scheduling.nodes.driver import (
    ContainerSpec,
    Driver,
    DriverError,
    Inventory,
    LaunchRefused,
    NodeUnreachable,
    NotYetGone,
    Observation,
    Phase,
    Sample,
)
from scheduling.nodes.exchange import Desired, Exchange, Report
from scheduling.nodes.gpu_check import GpuCheck
from scheduling.nodes.health import Health
from scheduling.nodes.lease import STOP_GRACE_S, Lease
from scheduling.nodes.probe import answers
from scheduling.nodes.reconcile import Actions, Launch, Memory, describe, diff
from scheduling.nodes.version import VERSION

log = logging.getLogger("berth.agent")

BUSY_INTERVAL_S = 0.5  # between rounds while something is starting
PROBE_INTERVAL_S = 0.025
INVENTORY_INTERVAL_S = 60.0
SAMPLE_INTERVAL_S = 5.0
OUTDATED = (
    "The portal tells an older desired state {new} than it told before {old}, so this node changes nothing. If its "
    "database was restored, run `manage.py node_epoch` there."
)
ENGINE_PATIENCE_S = 20.0  # how long a launch is retried while the engine is away


class Agent:
    """One thread that loops, one that probes, and a few that launch and stop. Driver calls happen in these alone.

    lease: for how long containers may run without an answer of the control plane; None where both are one process.
    describe: adds what the machine says of itself to the driver's inventory.
    """

    def __init__(
        self,
        *,
        node: str,
        driver: Driver,
        exchange: Exchange,
        lease: Lease | None = None,
        describe: Callable[[Inventory], Inventory] = lambda inventory: inventory,
        probe: Callable[[tuple[str, int], str], bool] = answers,
        workers: int = 16,
    ) -> None:
        self.node = node
        self.driver = driver
        self._exchange = exchange
        self._lease = lease
        self._describe = describe
        self._unheard = ""  # the last reason why an exchange failed, so that each is logged once
        self._outdated = ""  # why the control plane's desired state is not taken
        self._probe = probe
        self._memory = Memory(overdue=set(lease.ended) if lease else set())
        self._gpus = GpuCheck(driver)
        self._lock = threading.RLock()  # guards _memory and _seen
        self._seen: dict[str, Observation] = {}
        self._desired = Desired(version=0)
        self._wake = threading.Event()
        self._to_probe = threading.Event()
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="agent")
        self._thread: threading.Thread | None = None
        self._inventory: Inventory | None = None
        self._inventory_at = self._sampled_at = float("-inf")
        #: monotonic time of the last answered exchange; None before the first
        self.answered_at: float | None = None

    # -- from outside ---------------------------------------------------------------------------------------------
    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="agent", daemon=True)
        self._thread.start()
        threading.Thread(target=self._guard, args=(self._probe_all,), name="agent-probe", daemon=True).start()

    def wake(self) -> None:
        """Something may have changed: do a round now."""
        self._wake.set()

    def stop(self) -> None:
        """End the loop. Containers stay as they are; whoever wants them gone changes the desired state first."""
        self._stopped.set()
        self._wake.set()
        self._to_probe.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.driver.close()

    def address(self, allocation: str) -> tuple[str, int] | None:
        """Where a ready container of this node listens; None for anything else."""
        return self._memory.ready.get(allocation)

    # -- the loop -------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        looked_back = False
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                if not looked_back:
                    self._end_what_outlived_its_lease()
                    looked_back = True
                pause = self.round()
            except Exception:  # the process edge: one bad round must not end the node
                log.exception("round failed")
                pause = 2.0
            self._wake.wait(pause)

    def round(self) -> float:
        """Observe, exchange, act. Answers how many seconds the next round may wait."""
        trouble = ""
        with self._lock:
            busy_before = set(self._memory.launches) | self._memory.stopping
        try:
            inventory, samples = self._look_around()
            seen = {observation.allocation: observation for observation in self.driver.observe()}
        except NodeUnreachable as error:
            trouble, seen, inventory, samples = error.message, None, None, ()
        with self._lock:
            if seen is None:
                self._lose_patience(trouble)
                said = self._refusals()
            else:
                self._forget_absent(seen)
                said = tuple(describe(self._desired.parts, seen, self._memory, busy_before))
        health: tuple[Health, ...] = ()
        if seen is not None and self.answered_at is not None:  # before that nobody knows whose the cards are
            with self._lock:
                here = seen.keys() | self._memory.launches.keys() | self._memory.stopping
            said, health = self._gpus.look(said, self._desired.parts, here)
        wanted = {part.spec.allocation for part in self._desired.parts}
        sent_at = clock.boottime()
        try:
            desired = self._exchange(
                Report(
                    node=self.node,
                    boot_id=self._inventory.boot_id if self._inventory else "",
                    held_epoch=self._desired.epoch,
                    held_version=self._desired.version,
                    inventory=inventory,
                    observations=said,
                    samples=samples,
                    health=health,
                    trouble=trouble or self._outdated,
                    orphans=len(set(seen or ()) - wanted),
                )
            )
        except ConnectionError as error:
            return self._unanswered(error, seen, inventory)
        self._answered(desired, sent_at)
        if seen is None or self._outdated:
            return min(1.0, desired.interval_s) if seen is None else desired.interval_s
        with self._lock:
            self._drop_memory_of_others()
            actions = diff(self._desired.parts, seen, self._memory)
            here = seen.keys() | self._memory.launches.keys() | self._memory.stopping
        launch = self._gpus.startable(actions.launch, self._desired.parts, here)  # a driver's call: not under the lock
        with self._lock:
            self._act(replace(actions, launch=launch))
            busy = bool(self._memory.launches or self._memory.probing or self._memory.stopping or self._gpus.waiting)
        return min(BUSY_INTERVAL_S, self._desired.interval_s) if busy else self._desired.interval_s

    def _answered(self, desired: Desired, sent_at: float) -> None:
        """Take the desired state, unless it is older than what this node has been told before."""
        if self._unheard:
            log.info("%s: the control plane answers again", self.node)
            self._unheard = ""
        self.answered_at = clock.monotonic()
        told = max(self._desired.age, self._lease.told if self._lease else (0, 0))
        if desired.age >= told:
            self._desired, self._outdated = desired, ""
        elif not self._outdated:
            self._outdated = OUTDATED.format(new=desired.age, old=told)
            log.error("%s: %s", self.node, self._outdated)
        if self._lease is not None:
            self._lease.renew(sent_at=sent_at, lease_s=desired.lease_s, told=self._desired.age)

    def _unanswered(
        self, error: ConnectionError, seen: dict[str, Observation] | None, inventory: Inventory | None
    ) -> float:
        """What runs goes on until the lease is over, and no longer; nothing new is begun."""
        if str(error) != self._unheard:
            self._unheard = str(error)
            log.warning("%s: no answer from the control plane: %s", self.node, error)
        if inventory is not None:
            self._inventory_at = float("-inf")  # it did not arrive
        if self._lease is not None and self._lease.is_over():
            with self._lock:
                self._end_all(seen or {})
        return min(2.0, max(self._desired.interval_s, 0.1))

    def _end_all(self, seen: dict[str, Observation]) -> None:
        """The portal may give these places to others soon: stop what is there and what is on its way."""
        overdue = (seen.keys() | self._memory.launches.keys()) - self._memory.stopping
        if overdue:
            log.warning("%s: its lease is over, stopping %s", self.node, ", ".join(sorted(overdue)))
        self._memory.overdue |= overdue
        self._keep_overdue()
        self._act(Actions(stop=tuple((key, STOP_GRACE_S) for key in sorted(overdue))))

    def _end_what_outlived_its_lease(self) -> None:
        """The first thing after a start: while no agent ran, the lease of what is here may have passed."""
        if self._lease is None or not self._lease.is_over():
            return
        try:
            for observation in self.driver.observe():
                log.warning("%s: %s outlived its lease, ending it", self.node, observation.allocation)
                self._memory.overdue.add(observation.allocation)
                self._keep_overdue()
                self.driver.stop(observation.allocation, grace_s=0)
        except DriverError as error:  # the first exchange tells what may run here; the rest is removed as orphans
            log.warning("%s: cannot end what outlived its lease: %s", self.node, error.message)

    def _look_around(self) -> tuple[Inventory | None, tuple[Sample, ...]]:
        """The inventory once a minute and a sample every few seconds; None and nothing in between."""
        at = clock.monotonic()
        inventory: Inventory | None = None
        samples: tuple[Sample, ...] = ()
        if at - self._inventory_at >= INVENTORY_INTERVAL_S:
            inventory = self._inventory = replace(self._describe(self.driver.inventory()), agent=VERSION)
            self._gpus.know(inventory)
            self._inventory_at = at
        if at - self._sampled_at >= SAMPLE_INTERVAL_S:
            samples = tuple(self.driver.sample())
            self._sampled_at = at
        return inventory, samples

    def _forget_absent(self, seen: dict[str, Observation]) -> None:
        """A container that is gone or has exited is not ready any more, whatever a probe once said."""
        self._seen = seen
        for key in [k for k in self._memory.ready if k not in seen or seen[k].phase is not Phase.STARTING]:
            del self._memory.ready[key]
        for key, address in self._memory.ready.items():
            fresh = seen[key].address
            if fresh is not None and fresh != address:
                self._memory.ready[key] = fresh

    def _lose_patience(self, trouble: str) -> None:
        """The engine is away: what still waits to be launched is given up after a while, with that as the reason."""
        at = clock.monotonic()
        for part in self._desired.parts:
            key = part.spec.allocation
            if not part.run or part.launched or key in self._memory.refused:
                continue
            launch = self._memory.launches.setdefault(key, Launch(under_way=False, away_since=at))
            if launch.away_since is not None and at - launch.away_since >= ENGINE_PATIENCE_S:
                self._memory.refused[key] = ("engine-away", trouble)
                if not launch.under_way:
                    del self._memory.launches[key]

    def _refusals(self) -> tuple[Observation, ...]:
        """What can be said although the engine shows nothing: which launches were given up."""
        wanted = {part.spec.allocation for part in self._desired.parts if part.run}
        return tuple(
            Observation(key, Phase.REFUSED, code=code, message=message)
            for key, (code, message) in self._memory.refused.items()
            if key in wanted
        )

    def _drop_memory_of_others(self) -> None:
        running = {part.spec.allocation for part in self._desired.parts if part.run}
        for key in [k for k in self._memory.refused if k not in running]:
            del self._memory.refused[key]
        self._memory.overdue &= running
        self._keep_overdue()

    def _keep_overdue(self) -> None:
        if self._lease is not None:
            self._lease.note_ended(self._memory.overdue)

    # -- acting ---------------------------------------------------------------------------------------------------
    def _act(self, actions: Actions) -> None:
        for spec in actions.launch:
            earlier = self._memory.launches.get(spec.allocation)
            self._memory.launches[spec.allocation] = Launch(away_since=earlier.away_since if earlier else None)
            self._pool.submit(self._guard, self._launch, spec)
        for spec in actions.probe:
            self._memory.probing[spec.allocation] = spec
            self._to_probe.set()
        for allocation, grace_s in actions.stop:
            self._memory.stopping.add(allocation)
            self._pool.submit(self._guard, self._stop_one, allocation, grace_s)

    def _guard(self, work: Callable[..., None], *args: object) -> None:
        """The edge of a worker thread: what escapes is logged, and a round follows in any case."""
        try:
            work(*args)
        except Exception:
            log.exception("%s failed", work.__name__)
        finally:
            self._wake.set()

    def _launch(self, spec: ContainerSpec) -> None:
        key = spec.allocation
        launch = self._memory.launches[key]
        refusal: tuple[str, str] | None = None

        def progress(done: int, total: int) -> None:
            first = launch.progress is None
            launch.progress = (done, total)
            if first:
                self._wake.set()

        try:
            self.driver.launch(spec, progress=progress)
        except LaunchRefused as error:
            refusal = (error.code, error.message)
        except (NodeUnreachable, NotYetGone) as error:
            at = clock.monotonic()
            launch.away_since = at if launch.away_since is None else launch.away_since
            if at - launch.away_since < ENGINE_PATIENCE_S:
                with self._lock:
                    launch.under_way = False  # the next round tries again
                return
            refusal = (error.code, error.message)
        except Exception as error:
            log.exception("launch of %s broke the driver", key)
            refusal = ("driver-broken", f"The node could not start it: {error}.")
        with self._lock:
            self._memory.launches.pop(key, None)
            if refusal is not None:
                self._memory.refused[key] = refusal
        if refusal is not None:
            log.warning("launch of %s refused: %s", key, refusal[1])

    def _probe_all(self) -> None:
        """Ask every container that is starting whether it answers yet, in short steps. The questions have a pool of
        their own, so that servers which hang hold up no launch and no stop."""
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="agent-probe") as pool:
            asking: dict[str, Future[None]] = {}
            while not self._stopped.is_set():
                with self._lock:
                    waiting = {k: spec for k, spec in self._memory.probing.items() if self._may_become_ready(k)}
                    self._memory.probing = waiting
                asking = {key: answer for key, answer in asking.items() if not answer.done()}
                for key in waiting.keys() - asking.keys():
                    asking[key] = pool.submit(self._ask, waiting[key])
                if waiting:
                    self._stopped.wait(PROBE_INTERVAL_S)
                else:
                    self._to_probe.wait(timeout=5)
                    self._to_probe.clear()

    def _ask(self, spec: ContainerSpec) -> None:
        key = spec.allocation
        with self._lock:
            address = self._seen[key].address if self._may_become_ready(key) else None
        if address is None or not self._probe(address, spec.probe_path):
            return
        with self._lock:
            self._memory.ready[key] = address
            self._memory.probing.pop(key, None)
        self._wake.set()

    def _may_become_ready(self, key: str) -> bool:
        here = self._seen.get(key)
        return here is not None and here.phase is Phase.STARTING and key not in self._memory.stopping

    def _stop_one(self, allocation: str, grace_s: int) -> None:
        try:
            self.driver.stop(allocation, grace_s=grace_s)
        except DriverError as error:
            log.info("stop of %s is not finished: %s", allocation, error.message)
            self._stopped.wait(0.5)
        finally:
            with self._lock:
                self._memory.stopping.discard(allocation)
                launch = self._memory.launches.get(allocation)
                if launch is not None and not launch.under_way:
                    del self._memory.launches[allocation]
