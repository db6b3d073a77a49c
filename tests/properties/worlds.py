"""Random worlds: team trees with quotas at every level, pools, nodes in racks, jobs of every kind."""

from dataclasses import replace

from hypothesis import strategies as st

from scheduling.core.cluster import Ask, Cluster, Gpu, Instance, Node, Quota, Shape, Team
from scheduling.core.policy import Policy, SizeRule, Tier
from scheduling.core.units import GPU_UNITS

H100 = "NVIDIA H100 80GB HBM3"
MIG_NAMES = ("1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "1g", "2g", "3g")
LAYOUTS = tuple(
    tuple(Instance(*cut) for cut in layout)
    for layout in (
        (), (), (("3g.40gb", 0), ("3g.40gb", 4)), (("1g.20gb", 0), ("2g.20gb", 2), ("3g.40gb", 4)), (("1g.10gb", 0),)
    )
)  # fmt: skip


@st.composite
def machines(draw, *, most: int = 4, mig: bool = False):
    nodes, gpu = [], 0
    for number in range(1, draw(st.integers(1, most)) + 1):
        cards = []
        for _ in range(draw(st.integers(1, 4))):
            gpu += 1
            card = Gpu(gpu, H100, 81_920, island=draw(st.integers(0, 1)))
            if mig:
                card = replace(
                    card, mig=draw(st.sampled_from((True, True, False))), layout=draw(st.sampled_from(LAYOUTS))
                )
            cards.append(card)
        pool = draw(st.sampled_from(("h100", "h100", "a100")))
        path = (f"b{number // 4}", f"r{number // 2}")
        nodes.append(Node(number, f"n{number}", pool, 16_000, 65_536, tuple(cards), path=path))
    return tuple(nodes)


@st.composite
def quotas(draw, pools):
    some = []
    for pool in pools:
        if draw(st.booleans()):
            some.append(
                Quota(
                    pool,
                    guaranteed=draw(st.integers(0, 4)) * GPU_UNITS,
                    borrow_limit=draw(st.sampled_from((None, None, 0, GPU_UNITS, 3 * GPU_UNITS))),
                    lend_limit=draw(st.sampled_from((None, None, 0, GPU_UNITS))),
                    weight=draw(st.integers(0, 3)),
                    user_limit=draw(st.sampled_from((None, None, 2 * GPU_UNITS))),
                )
            )
    return tuple(some)


@st.composite
def team_trees(draw, pools=("h100", "a100"), most: int = 5):
    count = draw(st.integers(1, most))
    return tuple(
        Team(
            team,
            f"t{team}",
            parent=draw(st.integers(0, team - 1)),
            quotas=draw(quotas(pools)),
            min_runtime_s=draw(st.sampled_from((0, 0, 300))),
        )
        for team in range(1, count + 1)
    )


POLICIES = st.builds(
    Policy,
    tiers=st.sampled_from(
        (
            (Tier("production"), Tier("normal"), Tier("batch")),
            (Tier("urgent", critical=True), Tier("normal", size_rule=SizeRule.SHORTEST), Tier("batch")),
            (Tier("production"), Tier("normal"), Tier("batch", size_rule=SizeRule.ATTAINED)),
        )
    ),
    reserve_depth=st.sampled_from((0, 1, 8)),
    half_life_s=st.sampled_from((0, 3600, 7 * 86_400)),
    min_runtime_s=st.sampled_from((0, 0, 120)),
    recut=st.sampled_from((True, True, False)),
)


@st.composite
def shapes(draw, *, mig: bool = False):
    kind = draw(st.sampled_from(("whole", "whole", "whole", "cpu", "share", "mig" if mig else "whole")))
    more = {}
    if kind == "whole":
        more = {"gpus": draw(st.integers(1, 4)), "replicas": draw(st.sampled_from((1, 1, 1, 2, 3)))}
        if more["replicas"] > 1:
            more["required"] = draw(st.sampled_from(("", "", "node", "rack", "block", "island")))
        elif more["gpus"] > 1:
            more["required"] = draw(st.sampled_from(("", "", "", "island")))
        more["preferred"] = draw(st.sampled_from(("", "", "", "island", "node", "rack", "block", "row")))
    elif kind == "share":
        more = {
            "thousandths": draw(st.sampled_from((100, 250, 500, 1000))),
            "replicas": draw(st.sampled_from((1, 1, 2))),
        }
    elif kind == "mig":
        more = {"mig": draw(st.sampled_from(MIG_NAMES)), "replicas": draw(st.sampled_from((1, 1, 2)))}
    pools = draw(st.sampled_from(((), (), ("h100",), ("a100", "h100"))))
    return Shape(
        cpu_millis=draw(st.sampled_from((500, 2000, 5000))),
        memory_mib=draw(st.sampled_from((512, 16_384))),
        pools=pools,
        **more,
    )


@st.composite
def asks(draw, job: int, teams: int, *, mig: bool = False):
    team = draw(st.integers(1, teams))
    return Ask(
        job,
        team,
        team * 10 + draw(st.integers(1, 2)),
        draw(shapes(mig=mig)),
        submitted=draw(st.integers(0, 20)),
        limit_s=draw(st.sampled_from((60, 600, 3600))),
        tier=draw(st.sampled_from(("production", "urgent", "normal", "batch", "batch"))),
        priority=draw(st.sampled_from((0, 0, 5))),
        deadline=draw(st.sampled_from((0, 0, 0, 900, 5000))),
        preemptible=draw(st.sampled_from((True, True, True, False))),
        suspendable=draw(st.booleans()),
        saved_mib=draw(st.sampled_from((0, 4096))),
        min_runtime_s=draw(st.sampled_from((0, 0, 200))),
    )


@st.composite
def stories(draw, *, mig: bool = False, most_jobs: int = 14):
    """A cluster, a policy, and what happens: (seconds to let pass, jobs submitted then)."""
    nodes = draw(machines(mig=mig))
    teams = draw(team_trees())
    jobs = [draw(asks(job, len(teams), mig=mig)) for job in range(1, draw(st.integers(1, most_jobs)) + 1)]
    steps = []
    while jobs:
        count = draw(st.integers(1, len(jobs)))
        steps.append((draw(st.sampled_from((0, 10, 60, 400, 1000))), jobs[:count]))
        jobs = jobs[count:]
    return Cluster(nodes=nodes, teams=teams), draw(POLICIES), steps
