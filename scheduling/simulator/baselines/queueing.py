"""Well-known queue disciplines on the same trace, to compare with. They know every run time: better than they could be.

    fifo       strictly first come, first served: the head of the line blocks it
    sjf        shortest job first, strictly
    best-fit   first come, first served, but what does not fit now is passed over; nothing is reserved
    random     the same on random machines
    easy       backfill after Lifka (EASY): one reservation for the head; others pass if they end before it or take
               machines that it leaves over
    srtf       shortest remaining time first, preemptive and free of cost: chosen by count of GPUs; who runs on stays
               where he is, the others go where they fit

Each wall (set of pools) has a line of its own.
"""

import heapq
from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random  # noqa: TID251  (the baseline is named random; its seed is an argument)

from scheduling.core.cluster import Node, Shape
from scheduling.simulator.baselines.yard import Taken, Yard
from scheduling.simulator.history import History, Record
from scheduling.simulator.site import Site
from scheduling.simulator.traces.job import TraceJob

FOREVER = 1 << 60


@dataclass(frozen=True, slots=True)
class Waiting:
    """In the order of the line: the key, then the number of arrival."""

    key: int
    number: int
    lasts: int
    shape: Shape
    record: Record

    def __lt__(self, other: "Waiting") -> bool:
        return (self.key, self.number) < (other.key, other.number)


class Line:
    """One wall: its machines, who waits, who runs, and the clock between events."""

    def __init__(self, nodes: Iterable[Node], dice: Random | None = None) -> None:
        self.yard = Yard(nodes, dice=dice)
        self.queue: list[Waiting] = []
        self.ends: list[tuple[int, int, Waiting, list[Taken]]] = []

    def replay(self, jobs: list[Waiting], serve: "Callable[[Line, int], None]") -> None:
        arriving = iter(sorted(jobs, key=lambda job: (job.record.job.submit_s, job.number)))
        following = next(arriving, None)
        while following is not None or self.ends:
            submit = following.record.job.submit_s if following is not None else FOREVER
            now = min(submit, self.ends[0][0] if self.ends else FOREVER)
            if now >= FOREVER:
                return
            while self.ends and self.ends[0][0] == now:
                _, _, job, taken = heapq.heappop(self.ends)
                self.yard.give_back(job.shape, taken)
                job.record.end = now
            while following is not None and following.record.job.submit_s == now:
                insort(self.queue, following)
                following = next(arriving, None)
            if self.queue:
                serve(self, now)

    def start(self, job: Waiting, taken: list[Taken], now: int) -> None:
        job.record.first_start = now
        heapq.heappush(self.ends, (now + job.lasts, job.number, job, taken))


def strict(line: Line, now: int) -> None:
    while line.queue:
        taken = line.yard.place(line.queue[0].shape)
        if taken is None:
            return
        line.start(line.queue.pop(0), taken, now)


def passing(line: Line, now: int) -> None:
    """What has failed once fails again while nothing is given back: asks of the same shape are not tried twice."""
    failed: set[Shape] = set()
    stay = []
    for position, job in enumerate(line.queue):
        if line.yard.full():
            stay += line.queue[position:]
            break
        taken = None if job.shape in failed else line.yard.place(job.shape)
        if taken is None:
            failed.add(job.shape)
            stay.append(job)
        else:
            line.start(job, taken, now)
    line.queue = stay


def easy(line: Line, now: int) -> None:
    strict(line, now)
    if not line.queue or line.yard.full():
        return
    head, failed, stay = line.queue[0], set[Shape](), [line.queue[0]]
    shadow, later = _shadow(line, head)
    for position, job in enumerate(line.queue[1:], start=1):
        if line.yard.full():
            stay += line.queue[position:]
            break
        taken = None if job.shape in failed else line.yard.place(job.shape)
        if taken is None:
            failed.add(job.shape)
        elif now + job.lasts <= shadow:
            line.start(job, taken, now)
            continue
        elif (aside := later.move(job.shape, taken)) is not None:
            assert len(aside) == len(taken)
            line.start(job, taken, now)
            continue
        else:
            line.yard.give_back(job.shape, taken)
        stay.append(job)
    line.queue = stay


def _shadow(line: Line, head: Waiting) -> tuple[int, Yard]:
    """When the head can start at the latest, and the machines at that moment with the head on them."""
    later = line.yard.copy()
    for end, _, job, taken in sorted(line.ends, key=lambda running: running[:2]):
        later.give_back(job.shape, taken)
        if later.place(head.shape) is not None:
            return end, later
    return FOREVER, later


def shortest_remaining(nodes: list[Node], jobs: list[Waiting]) -> None:
    """Preemptive, so a loop of its own: at each event the whole wall is chosen anew."""
    Preemptive(nodes).replay(jobs)


@dataclass(slots=True)
class Running:
    job: Waiting
    end: int
    taken: list[Taken]


class Preemptive:
    def __init__(self, nodes: list[Node]) -> None:
        self.nodes, self.gpus = nodes, sum(len(node.gpus) for node in nodes) or FOREVER
        self.running: dict[int, Running] = {}
        self.waiting: list[tuple[int, int, Waiting]] = []  # (remaining, number, job), in order

    def replay(self, jobs: list[Waiting]) -> None:
        arriving = iter(sorted(jobs, key=lambda job: (job.record.job.submit_s, job.number)))
        following = next(arriving, None)
        while following is not None or self.running:
            submit = following.record.job.submit_s if following is not None else FOREVER
            now = min(submit, min((run.end for run in self.running.values()), default=FOREVER))
            if now >= FOREVER:
                return
            for number in [number for number, run in self.running.items() if run.end == now]:
                self.running.pop(number).job.record.end = now
            while following is not None and following.record.job.submit_s == now:
                insort(self.waiting, (following.lasts, following.number, following), key=lambda waits: waits[:2])
                following = next(arriving, None)
            self._choose(now)

    def _choose(self, now: int) -> None:
        yard, before = Yard(self.nodes), self.running
        chosen = self._by_count(now)
        self.running = {}
        for stays in (True, False):
            for left, number, job in chosen:
                if (number in before) is not stays:
                    continue
                taken = yard.move(job.shape, before[number].taken) if stays else None
                taken = taken if taken is not None else yard.place(job.shape)
                if taken is not None:
                    self.running[number] = Running(job, now + left, taken)
                    if job.record.first_start is None:
                        job.record.first_start = now
        started = self.running.keys() - before.keys()
        if started:
            self.waiting = [waits for waits in self.waiting if waits[1] not in started]
        for number in before.keys() - self.running.keys():
            run = before[number]
            run.job.record.suspensions += 1
            insort(self.waiting, (run.end - now, number, run.job), key=lambda waits: waits[:2])

    def _by_count(self, now: int) -> list[tuple[int, int, Waiting]]:
        room, chosen = self.gpus, []
        running = sorted((run.end - now, number, run.job) for number, run in self.running.items())
        for left, number, job in heapq.merge(running, self.waiting, key=lambda waits: waits[:2]):
            gpus = job.shape.replicas * job.shape.gpus
            if gpus <= room:
                chosen.append((left, number, job))
                room -= gpus
            if not room:
                break
        return chosen


def _by_submit(job: TraceJob) -> int:
    return job.submit_s


def _by_duration(job: TraceJob) -> int:
    return FOREVER if job.duration_s is None else job.duration_s


BASELINES: dict[str, tuple[Callable[[TraceJob], int], Callable[[Line, int], None] | None]] = {
    "fifo": (_by_submit, strict),
    "sjf": (_by_duration, strict),
    "best-fit": (_by_submit, passing),
    "random": (_by_submit, passing),
    "easy": (_by_submit, easy),
    "srtf": (_by_duration, None),
}


def replay_baseline(name: str, site: Site, jobs: Iterable[TraceJob], *, seed: int = 1) -> History:
    """Replay the trace under one of BASELINES. Jobs larger than their wall must have been left out before."""
    key, serve = BASELINES[name]
    working = [node for node in site.nodes if node.accepts]
    history = History(gpus=sum(len(node.gpus) for node in working))
    walls: dict[tuple[str, ...], list[Waiting]] = {}
    for number, job in enumerate(jobs, start=1):
        team = site.team_id(job.team)
        shape, record = site.shape(job, team), Record(job=job, number=number, team=team)
        history.records.append(record)
        lasts = FOREVER if job.duration_s is None else job.duration_s
        walls.setdefault(shape.pools, []).append(Waiting(key(job), number, lasts, shape, record))
    for pools, waiting in sorted(_merged(walls).items()):
        nodes = [node for node in working if not pools or node.pool in pools]
        if serve is None:
            shortest_remaining(nodes, waiting)
        else:
            Line(nodes, Random(seed) if name == "random" else None).replay(waiting, serve)
    times = [record.job.submit_s for record in history.records]
    history.began = min(times, default=0)
    history.ended = max((record.end for record in history.finished if record.end is not None), default=history.began)
    return history


def _merged(walls: dict[tuple[str, ...], list[Waiting]]) -> dict[tuple[str, ...], list[Waiting]]:
    """Walls that overlap are one: then everybody stands in one line for all pools."""
    pools = [pool for wall in walls for pool in wall]
    if (() in walls and len(walls) > 1) or len(pools) != len(set(pools)):
        return {(): [job for waiting in walls.values() for job in waiting]}
    return walls
