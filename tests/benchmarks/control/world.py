"""A core snapshot as rows of the database, so that the queues of `make bench-core` can be put before the whole loop."""

from datetime import datetime, timedelta

from django.db.models import F

from scheduling.core.cluster import Ask, Cluster
from scheduling.core.lifecycle import JobState
from scheduling.models import Allocation, Gpu, Job, Node, Pool, Slot
from tenants.models import Member, Quota, Role, Team, User


def store(cluster: Cluster, *, now: datetime, at: int) -> None:
    """Write a cluster of whole cards whose present is `at` as if it were `now`. Ids are the database's own.

    Reservations, claims and the past are left out.
    """
    Store(now, at).store(cluster)


class Store:
    def __init__(self, now: datetime, at: int) -> None:
        self._now, self._at = now, at
        self._people: dict[int, User] = {}
        self._teams: dict[int, Team] = {}

    def _moment(self, seconds: int) -> datetime:
        return self._now + timedelta(seconds=seconds - self._at)

    def store(self, cluster: Cluster) -> None:
        pools = {name: Pool.objects.get_or_create(name=name)[0] for name in sorted({n.pool for n in cluster.nodes})}
        nodes = Node.objects.bulk_create(
            Node(
                name=node.name,
                pool=pools[node.pool],
                driver="simulated",
                cpu_millis=node.cpu_millis,
                memory_mib=node.memory_mib,
                path=list(node.path),
                labels=dict(node.labels),
                seen_at=self._now,
            )
            for node in cluster.nodes
        )
        node_of = {node.id: row for node, row in zip(cluster.nodes, nodes, strict=True)}
        cards = [(node, place, gpu) for node in cluster.nodes for place, gpu in enumerate(node.gpus)]
        gpus = Gpu.objects.bulk_create(
            Gpu(
                node=node_of[node.id],
                uuid=f"{node.name}-{place}",
                index=place,
                model=gpu.model,
                memory_mib=gpu.memory_mib,
                simulated=True,
            )
            for node, place, gpu in cards
        )
        slots = Slot.objects.bulk_create(Slot(gpu=gpu, device_uuid=gpu.uuid) for gpu in gpus)
        slot_of = {card[2].id: slot for card, slot in zip(cards, slots, strict=True)}
        self._store_teams(cluster)
        self._store_people(cluster)
        runs = Job.objects.bulk_create(
            self._job(
                run.ask,
                state=JobState.RUNNING,
                version=4,
                attempt=1,
                running_at=self._moment(run.running_at),
                since_at=self._moment(run.running_at),
            )
            for run in cluster.runs
        )
        Job.objects.bulk_create(self._job(ask, since_at=self._moment(ask.submitted)) for ask in cluster.asks)
        Allocation.objects.bulk_create(
            Allocation(
                job=job,
                attempt=1,
                part=index,
                lead=rank == 0,
                node=node_of[part.node],
                slot=slot_of[piece.gpu],
                units=piece.units,
                cpu_millis=part.cpu_millis if rank == 0 else 0,
                memory_mib=part.memory_mib if rank == 0 else 0,
                charge=sum(p.units for p in part.pieces) if rank == 0 else 0,
                held_at=self._moment(run.held_at),
                phase="ready",
                phase_at=self._moment(run.running_at),
            )
            for run, job in zip(cluster.runs, runs, strict=True)
            for index, part in enumerate(run.parts)
            for rank, piece in enumerate(part.pieces)
        )
        for job in runs:
            Slot.objects.filter(allocations__job=job).update(held_by=job)
        Gpu.objects.filter(slots__held_by__isnull=False).update(held_units=F("held_units") + 42_000)

    def _store_teams(self, cluster: Cluster) -> None:
        for team in cluster.teams:
            self._teams[team.id] = Team.objects.create(slug=team.name, name=team.name)
        for team in cluster.teams:
            row = self._teams[team.id]
            if team.parent:
                row.parent = self._teams[team.parent]
                row.save()
            for quota in team.quotas:
                Quota.objects.create(team=row, **{name: getattr(quota, name) for name in quota.__dataclass_fields__})

    def _store_people(self, cluster: Cluster) -> None:
        for ask in [*cluster.asks, *(run.ask for run in cluster.runs)]:
            if ask.team not in self._teams:
                self._teams[ask.team] = Team.objects.create(slug=f"team{ask.team}", name=f"Team {ask.team}")
            if ask.user not in self._people:
                person = self._people[ask.user] = User.objects.create(username=f"person{ask.user}")
                Member.objects.create(team=self._teams[ask.team], user=person, role=Role.MEMBER)

    def _job(self, ask: Ask, **more: object) -> Job:
        shape = ask.shape
        return Job(
            team=self._teams[ask.team],
            owner=self._people[ask.user],
            kind="batch",
            name="work",
            tier=ask.tier,
            priority=ask.priority,
            preemptible=ask.preemptible,
            image="x",
            replicas=shape.replicas,
            gpus=shape.gpus,
            cpu_millis=shape.cpu_millis,
            memory_mib=shape.memory_mib,
            limit=timedelta(seconds=ask.limit_s),
            submitted_at=self._moment(ask.submitted),
            **more,
        )
