"""Crowded worlds by number: hierarchical teams whose jobs want more than there is, so that somebody always has to go.

Drawn from a seed and not by hypothesis, because thousands of different worlds are wanted, and a failing one is named by
its number.
"""

from random import Random

from scheduling.core.cluster import Ask, Cluster, Gpu, Node, Quota, Shape, Team
from scheduling.core.policy import Policy, SizeRule, Tier
from scheduling.core.units import GPU_UNITS

POOL = "gpu"
TIERS = (
    (Tier("production"), Tier("normal"), Tier("batch")),
    (Tier("urgent", critical=True), Tier("normal"), Tier("batch", size_rule=SizeRule.SHORTEST)),
    (Tier("production"), Tier("normal", size_rule=SizeRule.ATTAINED), Tier("batch")),
)
NEVER_ENDS = 10_000_000
#: seconds to let pass, jobs submitted then
Step = tuple[int, list[Ask]]


def crowd(seed: int, *, endless: bool = False) -> tuple[Cluster, Policy, list[Step]]:
    """The world of this number: one to three nodes, two levels of teams or three, and up to 24 jobs in a few waves.
    `endless`: no run ever comes to its end, so that after the last wave only evictions change anything."""
    random = Random(seed)
    nodes, gpu = [], 0
    for number in range(1, random.randint(1, 3) + 1):
        size = random.randint(2, 6)
        cards = tuple(Gpu(gpu + n, "H100", 81_920) for n in range(1, size + 1))
        gpu += size
        nodes.append(Node(number, f"n{number}", POOL, 64_000, 1 << 20, cards, path=("b", f"r{number // 2}")))
    teams = _tree(random, gpu)
    leaves = [t.id for t in teams if not any(other.parent == t.id for other in teams)]
    jobs = [_ask(random, job, random.choice(leaves), endless) for job in range(1, random.randint(8, 24) + 1)]
    steps: list[Step] = []
    while jobs:
        count = random.randint(1, len(jobs))
        steps.append((random.choice((0, 60, 300, 900)), jobs[:count]))
        jobs = jobs[count:]
    return Cluster(nodes=tuple(nodes), teams=teams), _policy(random), steps


def _policy(random: Random) -> Policy:
    return Policy(
        tiers=random.choice(TIERS),
        reserve_depth=random.choice((0, 8)),
        half_life_s=random.choice((0, 3600, 7 * 86_400)),
        min_runtime_s=random.choice((0, 0, 120)),
    )


def _tree(random: Random, gpus: int) -> tuple[Team, ...]:
    """Departments, teams below them, and sometimes projects below those; some with limits, some without any quota."""
    teams: list[Team] = []
    departments = random.randint(1, 3)
    for number in range(1, departments + 1):
        teams.append(Team(number, f"d{number}", 0, _quota(random, gpus // departments)))
    for number in range(departments + 1, departments + random.randint(2, 6) + 1):
        parent = random.randint(1, number - 1)
        teams.append(Team(number, f"t{number}", parent, _quota(random, 2), min_runtime_s=random.choice((0, 0, 0, 400))))
    return tuple(teams)


def _quota(random: Random, most: int) -> tuple[Quota, ...]:
    if random.random() < 0.2:
        return ()
    return (
        Quota(
            POOL,
            guaranteed=random.randint(0, max(0, most)) * GPU_UNITS,
            borrow_limit=random.choice((None, None, None, 2 * GPU_UNITS)),
            lend_limit=random.choice((None, None, None, GPU_UNITS)),
            weight=random.choice((1, 1, 2, 3, 0)),
        ),
    )


def _ask(random: Random, job: int, team: int, endless: bool) -> Ask:
    shape = Shape(
        gpus=random.choice((1, 1, 2, 2, 3, 4)), cpu_millis=1000, memory_mib=1024, replicas=random.choice((1, 1, 1, 2))
    )
    return Ask(
        job, team, team * 10 + random.randint(1, 2), shape, submitted=job,
        limit_s=NEVER_ENDS if endless else random.choice((1200, 9000, 90_000)),
        tier=random.choice(("production", "urgent", "normal", "normal", "batch")), preemptible=random.random() < 0.9,
        suspendable=random.random() < 0.3, saved_mib=random.choice((4096, 40_960)),
        min_runtime_s=random.choice((0, 0, 0, 500)),
    )  # fmt: skip
