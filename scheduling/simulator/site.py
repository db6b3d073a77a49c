"""The place where a replay happens: machines and teams with their names, and trace jobs put into the core's words."""

from dataclasses import dataclass, field, replace

from scheduling.core.cluster import Ask, Booking, Cluster, Node, Pool, Shape, Team
from scheduling.simulator.traces.job import WHOLE, TraceJob


class NoSuchTeam(Exception):
    """The trace names a team that the cluster file does not have."""


@dataclass(slots=True)
class Site:
    """`open_to_all`: the cluster file lists no teams, so those of the trace become teams without guarantees.

    `pools_of`: pools in which a team's jobs run when they do not say; a team that is missing there may use any.
    """

    nodes: tuple[Node, ...]
    pools: tuple[Pool, ...]
    teams: tuple[Team, ...] = ()
    bookings: tuple[Booking, ...] = ()
    open_to_all: bool = False
    pools_of: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _ids: dict[str, int] = field(default_factory=dict)
    _users: dict[tuple[int, str], int] = field(default_factory=dict)
    _card_mib: dict[Shape, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ids = {team.name: team.id for team in self.teams}

    def cluster(self, *, shift_s: int = 0) -> Cluster:
        """As it is when the replay begins, with nothing running. `shift_s`: by so much the axis is moved."""
        bookings = (replace(b, starts=b.starts + shift_s, ends=b.ends + shift_s) for b in self.bookings)
        return Cluster(nodes=self.nodes, pools=self.pools, teams=self.teams, bookings=tuple(bookings))

    def meet(self, names: set[str]) -> None:
        """Make the trace's teams known, where the cluster file leaves that open. Sorted, so that ids never depend on
        the order of arrival."""
        if self.open_to_all:
            self.teams = tuple(Team(id=number, name=name) for number, name in enumerate(sorted(names), start=1))
            self._ids = {team.name: team.id for team in self.teams}

    def team_id(self, name: str) -> int:
        try:
            return self._ids[name]
        except KeyError:
            what = f"has no team {name!r}" if name else "lists teams, and the trace names none here"
            raise NoSuchTeam(f"the cluster {what}") from None

    def shape(self, job: TraceJob, team: int) -> Shape:
        part = job.gpu_thousandths if job.gpus and job.gpu_thousandths < WHOLE else 0
        return Shape(
            gpus=0 if part or job.mig else job.gpus,
            thousandths=part,
            mig=job.mig,
            cpu_millis=job.cpu_millis,
            memory_mib=job.memory_mib,
            replicas=job.replicas,
            gpu_memory_mib=job.gpu_memory_mib,
            models=job.models,
            pools=job.pools or self.pools_of.get(team, ()),
            required=job.topology_required,
            preferred=job.topology_preferred,
            needs=job.needs,
        )

    def ask(self, job: TraceJob, number: int, *, limit_s: int, suspendable: bool, tier: str, shift_s: int = 0) -> Ask:
        team = self.team_id(job.team)
        shape = self.shape(job, team)
        user = self._users.setdefault((team, job.user), len(self._users) + 1)
        return Ask(
            job=number,
            team=team,
            user=user,
            shape=shape,
            submitted=job.submit_s + shift_s,
            limit_s=limit_s,
            tier=tier,
            priority=job.priority,
            deadline=0 if job.deadline_s is None else job.deadline_s + shift_s,
            not_before=0 if job.not_before_s is None else job.not_before_s + shift_s,
            preemptible=job.preemptible,
            suspendable=suspendable,
            min_runtime_s=job.min_runtime_s,
            saved_mib=(job.saved_mib or shape.gpus * self._largest_card(shape)) if suspendable else 0,
        )

    def _largest_card(self, shape: Shape) -> int:
        """MiB of the largest card that it may get: what it might have to save of it. 0: the cluster does not say."""
        known = self._card_mib.get(shape)
        if known is None:
            nodes = (node for node in self.nodes if not shape.pools or node.pool in shape.pools)
            cards = (gpu for node in nodes for gpu in node.gpus if not shape.models or gpu.model in shape.models)
            known = self._card_mib[shape] = max((gpu.memory_mib for gpu in cards), default=0)
        return known
