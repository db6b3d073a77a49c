"""Small worlds whose cards are cut or shared: runs of several teams on parts of cards, and one job that wants a part."""

from hypothesis import strategies as st

from scheduling.core import mig
from scheduling.core.cluster import Ask, Cluster, Gpu, Instance, Node, Part, Piece, Quota, Run, Shape, Team
from scheduling.core.units import GPU_UNITS, fraction
from tests.properties.worlds import H100

NOW = 10_000
OWNER = 1
MEMORY = 81_920
#: one of each kind on a card: all of it, instances, shares
KINDS = ("cut", "cut", "cut", "shared", "whole", "free")
WISHES = (
    Shape(mig="1g"), Shape(mig="2g"), Shape(mig="3g"), Shape(mig="4g"), Shape(mig="7g"), Shape(mig="3g.40gb"),
    Shape(thousandths=300), Shape(thousandths=700), Shape(thousandths=1000), Shape(gpus=1), Shape(gpus=2),
)  # fmt: skip


@st.composite
def pieces_of_a_card(draw, gpu: int, most: int):
    """What is held of one card: each row is a run's piece of it, and the shape that asked for it."""
    kind = draw(st.sampled_from(KINDS))
    if kind == "free" or not most:
        return []
    if kind == "whole":
        return [(Piece(gpu, GPU_UNITS), Shape(gpus=1))]
    held = []
    if kind == "shared":
        left = 1000
        for share in draw(st.lists(st.sampled_from((100, 250, 300, 500, 700)), max_size=most)):
            if share <= left:
                left -= share
                piece = Piece(gpu, fraction(share), thousandths=share, memory_mib=MEMORY * share // 1000)
                held.append((piece, Shape(thousandths=share)))
        return held
    layout: list[Instance] = []
    for name in draw(st.lists(st.sampled_from(("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb")), max_size=most)):
        profile = mig.PROFILES[H100][name]
        start = draw(st.sampled_from(profile.starts))
        if mig.legal(H100, (*layout, Instance(name, start))):
            layout.append(Instance(name, start))
            held.append((Piece(gpu, profile.units, name, start, memory_mib=profile.memory_mib), Shape(mig=name)))
    return held


@st.composite
def cut_worlds(draw, *, nodes: int = 2, runs: int = 7, teams):
    """Up to so many runs on one to two cards a node, and job 1 of team 1 that wants a part of a card, or whole ones.
    CPU and memory are short enough to bind now and then. `teams`: a strategy of the whole tree."""
    tree = draw(teams)
    machines, held, gpu, job = [], [], 0, 100
    for number in range(1, draw(st.integers(1, nodes)) + 1):
        cards = []
        for _ in range(draw(st.integers(1, 2))):
            gpu += 1
            pieces = draw(pieces_of_a_card(gpu, min(4, runs - len(held))))
            cut = tuple(sorted((Instance(p.profile, p.start) for p, _ in pieces if p.profile), key=lambda i: i.start))
            cards.append(Gpu(gpu, H100, MEMORY, mig=True, layout=cut))
            owner = draw(st.sampled_from([team.id for team in tree]))
            for piece, shape in pieces:
                job += 1
                # Only instances of different teams share a card.
                team = draw(st.sampled_from([team.id for team in tree])) if piece.profile else owner
                since = NOW - draw(st.sampled_from((10, 100, 1000)))
                wish = Ask(
                    job, team, team * 10, shape, 0, 50_000, tier=draw(st.sampled_from(("normal", "batch"))),
                    preemptible=draw(st.sampled_from((True, True, True, False))),
                    suspendable=draw(st.booleans()), saved_mib=4096,
                )  # fmt: skip
                part = Part(number, (piece,), draw(st.sampled_from((0, 1000, 4000))), 1024)
                held.append(Run(wish, (part,), since, running_at=since, pool="gpu"))
        machines.append(Node(number, f"n{number}", "gpu", 10_000, 65_536, tuple(cards)))
    shape = draw(st.sampled_from(WISHES))
    cpu, memory = draw(st.sampled_from((0, 0, 2000, 6000))), draw(st.sampled_from((0, 0, 16_384, 61_440)))
    replicas = draw(st.sampled_from((1, 1, 1, 2)))
    shape = Shape(cpu_millis=cpu, memory_mib=memory, gpus=shape.gpus, mig=shape.mig, thousandths=shape.thousandths,
                  replicas=replicas)  # fmt: skip
    ask = Ask(1, OWNER, 10, shape, 0, draw(st.sampled_from((600, 50_000))), tier="normal")
    return Cluster(nodes=tuple(machines), asks=(ask,), runs=tuple(held), teams=tree)


#: an owner of everything, however much of it is stranded, and borrowers
OWNED = st.just(
    (Team(OWNER, "owner", 0, (Quota("gpu", guaranteed=4 * GPU_UNITS),)), Team(2, "borrower"), Team(3, "other"))
)


@st.composite
def small_trees(draw):
    """Three to five teams on two levels, with guarantees, limits and weights."""
    teams = []
    for team in range(1, draw(st.integers(3, 5)) + 1):
        quota = Quota(
            "gpu", guaranteed=draw(st.sampled_from((0, 0, GPU_UNITS // 2, GPU_UNITS, 2 * GPU_UNITS))),
            borrow_limit=draw(st.sampled_from((None, None, None, 0, GPU_UNITS))),
            lend_limit=draw(st.sampled_from((None, None, None, 0))), weight=draw(st.integers(0, 3)),
        )  # fmt: skip
        teams.append(Team(team, f"t{team}", draw(st.sampled_from((0, 0, max(0, team - 1)))), (quota,)))
    return tuple(teams)


@st.composite
def many_instances(draw):
    """Two or three cards cut into as many small instances as fit, each of a borrower's run; the owner wants one that is
    larger. CPU and memory are not short."""
    held, cards, job = [], [], 100
    for gpu in range(1, draw(st.integers(2, 3)) + 1):
        layout: list[Instance] = []
        for start in range(7):
            name = draw(st.sampled_from(("1g.10gb", "1g.10gb", "2g.20gb")))
            new = Instance(name, start)
            if mig.legal(H100, (*layout, new)):
                layout.append(new)
                job += 1
                since = NOW - draw(st.integers(1, 1000))
                wish = Ask(job, 2, 20, Shape(mig=name), 0, 50_000, tier=draw(st.sampled_from(("normal", "batch"))))
                profile = mig.PROFILES[H100][name]
                piece = Piece(gpu, profile.units, name, start, memory_mib=profile.memory_mib)
                held.append(Run(wish, (Part(1, (piece,)),), since, running_at=since, pool="gpu"))
        cards.append(Gpu(gpu, H100, MEMORY, mig=True, layout=tuple(layout)))
    ask = Ask(1, OWNER, 10, Shape(mig=draw(st.sampled_from(("2g", "3g", "4g", "7g")))), 0, 600)
    node = Node(1, "n1", "gpu", 10_000, 65_536, tuple(cards))
    return Cluster(nodes=(node,), asks=(ask,), runs=tuple(held), teams=draw(OWNED))
