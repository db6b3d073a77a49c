"""Who breaks things: one fault after the other, at random from a seed, each undone as a supervisor or a person would."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import docker
import redis

from tests.cluster.chaos.lossy import LossyRoad
from tests.cluster.cluster import Cluster, ClusterNode
from tests.cluster.parts import Part

PAUSE_S = (1.0, 4.0)  # between two faults
RESTART_S = (1.0, 3.0)  # until a supervisor has what was killed up again
SHORT_CUT_S = 4.0


class Monkey:
    """Runs in a thread from `start` until `stop`, which mends everything. `done`: what it did, by kind. `killed`: the
    allocations whose container it killed."""

    def __init__(self, cluster: Cluster, road: LossyRoad, *, seed: int, fence_s: float) -> None:
        self.done: Counter[str] = Counter()
        self.killed: set[int] = set()
        self._cluster = cluster
        self._road = road
        self._random = random.Random(seed)
        self._fence_s = fence_s
        self._over, self._hurry = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="monkey")
        self._cutting: threading.Thread | None = None
        self.trouble = ""

    def start(self) -> None:
        self._road.bad.set()
        self._thread.start()

    def stop(self, *, hurry: bool = False) -> None:
        """hurry: a long cut is healed at once."""
        self._over.set()
        if hurry:
            self._hurry.set()
        self._thread.join()
        if self._cutting is not None:
            self._cutting.join()
        self._road.bad.clear()

    def partition(self) -> None:
        """Cut one node off until it is fenced and its work runs elsewhere; then heal it. Meanwhile the rest goes on."""
        self._cutting = threading.Thread(target=self._long_cut, name="long-cut")
        self._cutting.start()

    def _run(self) -> None:
        faults: list[tuple[int, Callable[[], None]]] = [
            (4, self._kill_a_container),
            (3, self._kill_an_agent),
            (3, self._kill_a_worker),
            (2, self._lose_messages),
            (2, self._repeat_messages),
            (1, self._kill_redis),
            (1, self._kill_a_web),
            (1, self._cut_for_a_moment),
        ]
        weights = [weight for weight, _ in faults]
        try:
            while not self._over.wait(self._random.uniform(*PAUSE_S)):
                self._random.choices([fault for _, fault in faults], weights)[0]()
        except Exception as error:  # the edge of the thread; a chaos that has stopped must be known as such
            self.trouble = f"{type(error).__name__}: {error}"

    def _rest(self) -> None:
        time.sleep(self._random.uniform(*RESTART_S))

    def _node(self) -> ClusterNode:
        return self._random.choice(list(self._cluster.nodes.values()))

    def _kill_a_container(self) -> None:
        node = self._node()
        client = node.engine.client()
        try:
            running = client.containers(filters={"label": "berth.allocation", "status": "running"})
            if running:
                victim = self._random.choice(sorted(running, key=lambda one: str(one["Id"])))
                self.killed.add(int(victim["Labels"]["berth.allocation"]))
                client.kill(victim["Id"], "SIGKILL")
                self.done["containers killed"] += 1
        except docker.errors.APIError:
            self.done["containers that were faster"] += 1  # it had just ended
        finally:
            client.close()

    def _kill_an_agent(self) -> None:
        node = self._node()
        node.agent.kill()
        self.done["agents killed"] += 1
        self._rest()
        node.start_agent()

    def _kill_a_worker(self) -> None:
        number = self._random.randrange(len(self._cluster.workers))
        self._kill(self._cluster.workers[number], self._cluster.beats[number])
        self.done["workers killed"] += 1

    def _kill_a_web(self) -> None:
        self._kill(self._random.choice(self._cluster.webs))
        self.done["web processes killed"] += 1

    def _kill(self, *parts: Part) -> None:
        for part in parts:
            part.kill()
        self._rest()
        for part in parts:
            part.start()

    def _kill_redis(self) -> None:
        self._kill(self._cluster.redis.part)
        self._cluster.redis.wait()
        self.done["redis killed"] += 1

    def _lose_messages(self) -> None:
        """What waits for the workers and the nodes is gone."""
        with self._redis() as broker:
            lost = [broker.delete(queue) for queue in self._queues()]
        self.done["queues emptied"] += sum(int(bool(one)) for one in lost)

    def _repeat_messages(self) -> None:
        with self._redis() as broker:
            for queue in self._queues():
                waiting = broker.lrange(queue, 0, 9)
                if waiting:
                    broker.lpush(queue, *waiting)
                    self.done["messages repeated"] += len(waiting)

    def _queues(self) -> list[str]:
        return ["celery", *(f"node.{name}" for name in self._cluster.nodes)]

    def _redis(self) -> redis.Redis:
        return redis.Redis.from_url(self._cluster.redis.url)

    def _cut_for_a_moment(self) -> None:
        if self._cutting is not None and self._cutting.is_alive():
            return  # one node at a time, or there may be none left to run anything
        node = self._node()
        self._cluster.network.unplug(node.name)
        time.sleep(SHORT_CUT_S)
        self._cluster.network.plug(node.name)
        self.done["short cuts of a node"] += 1

    def _long_cut(self) -> None:
        name = list(self._cluster.nodes)[-1]
        self._cluster.network.unplug(name)
        self._hurry.wait(self._fence_s + 15)
        self._cluster.network.plug(name)
        self.done["nodes cut off until fenced, and healed"] += 1
