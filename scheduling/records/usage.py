"""What each team has used beyond its guarantee, as a decayed mean that counts in the order of the queue.

The mean is brought up to date in the transaction of every change of what somebody holds, just before the change, with
the core's own `Tree`: so the live loop remembers what the simulator's warm planner would.
"""

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Count, F, Q, Sum

from scheduling.core.cluster import Part, Past
from scheduling.core.decisions import Credit
from scheduling.core.quota import Tree, children_first
from scheduling.core.units import GPU_UNITS, charge
from scheduling.models import Allocation, Claim, ClaimedSlot, Gpu, Node, PastUse, Pool
from scheduling.shaping import accepts_work, reference_of, seconds, teams
from scheduling.wiring import wired

#: (team, person) who hold something, or will
Holder = tuple[int, int]


class Charges:
    """What parts cost their teams, as the core counts it. Reads each pool once: made anew for every transaction."""

    def __init__(self) -> None:
        self._pools: dict[str, tuple[tuple[int, int, int], bool]] = {}

    def of(self, part: Part, pool: str) -> int:
        """In units of the pool."""
        if pool not in self._pools:
            gpus = Gpu.objects.filter(node__pool__name=pool, retired_at__isnull=True)
            self._pools[pool] = (reference_of(Pool.objects.get(name=pool)), gpus.exists())
        reference, gpu_pool = self._pools[pool]
        return charge(
            gpu_units=sum(piece.units for piece in part.pieces),
            cpu_millis=part.cpu_millis,
            memory_mib=part.memory_mib,
            reference=reference,
            gpu_pool=gpu_pool,
        )


def settle(pool: str, holders: Iterable[Holder], *, now: datetime) -> None:
    """Bring the means of these teams, of every team above them and of these people up to `now`. Call it in the
    transaction of a change, before the change; changes in one pool wait for each other. It locks the pool's row: call
    it before rows of jobs or nodes are locked, so that nobody waits in a circle."""
    holders = sorted(set(holders))
    if not holders:
        return
    Pool.objects.select_for_update().get(name=pool)
    tree = _tree(pool, now)
    for past in PastUse.objects.filter(pool=pool):
        tree.remember(Past(past.team, past.person, pool, past.mean, past.at))
    touched = set()
    for team, person in holders:
        account = tree.account(team)
        tree.settle(account, person, seconds(now), wired().policy.half_life_s)
        touched |= {(team, person), *((above.team, 0) for above in account.path())}
    PastUse.objects.bulk_create(
        [
            PastUse(team=past.team, person=past.user, pool=pool, mean=past.mean, at=past.at)
            for past in tree.memories()
            if (past.team, past.user) in touched
        ],
        update_conflicts=True,
        unique_fields=["team", "person", "pool"],
        update_fields=["mean", "at"],
    )


def credit(given: Credit) -> None:
    """Guaranteed work fell for critical work: its teams' past counts for less, which may make a mean negative. Call it
    in the transaction of the eviction, after `settle` has brought the teams' means up to the same moment."""
    PastUse.objects.filter(team__in=given.teams, person=0, pool=given.pool).update(mean=F("mean") - given.mean)


def _tree(pool: str, now: datetime) -> Tree:
    """The pool's accounts with what everybody holds at this moment, claims included."""
    known = {team.id: team for team in teams()}
    tree = Tree(pool, known, children_first(known))
    live = Allocation.objects.filter(released_at__isnull=True, node__pool__name=pool, charge__gt=0)
    claimed = ClaimedSlot.objects.filter(claim__pool=pool, charge__gt=0)
    held = [
        *live.values_list("node_id", "job__team_id", "job__owner_id").annotate(Sum("charge")).order_by(),
        *claimed.values_list("node_id", "claim__job__team_id", "claim__job__owner_id")
        .annotate(Sum("charge"))
        .order_by(),
    ]
    tree.set_capacity(_capacity(pool, held, now))
    for _, team, person, units in held:
        account = tree.account(team)
        account.add(units)
        account.users[person] = account.users.get(person, 0) + units
    for team, units in _handed_over(pool):
        tree.account(team).add(-units)
    return tree


def _capacity(pool: str, held: list[tuple[int, int, int, int]], now: datetime) -> int:
    """As the core counts it: nodes that accept work, and what is held on those that do not."""
    held_on: dict[int, int] = {}
    for node_id, _, _, units in held:
        held_on[node_id] = held_on.get(node_id, 0) + units
    cards = Count("gpus", filter=Q(gpus__retired_at__isnull=True))
    nodes = list(
        Node.objects.filter(pool__name=pool).defer("notes", "images", "facts", "labels", "path").annotate(cards=cards)
    )
    gpu_pool = any(node.cards for node in nodes)
    units = 0
    for node in nodes:
        if accepts_work(node, now):
            units += node.cards * GPU_UNITS if gpu_pool else node.cpu_millis
        else:
            units += held_on.get(node.pk, 0)
    return units


def _handed_over(pool: str) -> list[tuple[int, int]]:
    """(team of a victim, units): what has passed to the job that it stops for must not count twice."""
    claims = list(Claim.objects.filter(pool=pool).annotate(units=Sum("slots__charge")).order_by("job_id"))
    victims = {job for claim in claims for job, _ in claim.victims}
    if not victims:
        return []
    live = Allocation.objects.filter(released_at__isnull=True, node__pool__name=pool, job__in=victims)
    holds = {
        (job, attempt): (team, units)
        for job, attempt, team, units in live.values_list("job_id", "attempt", "job__team_id")
        .annotate(Sum("charge"))
        .order_by()
    }
    handed = []
    for claim in claims:
        left = claim.units or 0
        for job, attempt in claim.victims:
            team, units = holds.get((job, attempt), (0, 0))
            passed = min(left, units)
            left -= passed
            if passed:
                handed.append((team, passed))
    return handed
