"""A cluster file: machines and teams. docs/simulator.md shows one.

nodes: [{name: a, count: 4, pool: h100, gpus: 8, model: H100, gpu_memory_gib: 80, cpus: 96, memory_gib: 1024}]
teams: {vision: {parent: research, weight: 2, pools: [h100], quota: {h100: {guaranteed_gpus: 16, borrow_gpus: 8}}}}
"""

from pathlib import Path

from scheduling.core.cluster import Gpu, Node, Pool, Quota, Team
from scheduling.core.mig import PROFILES
from scheduling.core.units import GPU_UNITS
from scheduling.simulator.files.reading import Block, read_file
from scheduling.simulator.site import Site

MILLI_PERCENT = 1000


def read_cluster(path: Path) -> Site:
    """Machines, teams and their quotas; refused if the guarantees cannot be met or the tree has a cycle."""
    return read_file(path, _site)


def _site(block: Block) -> Site:
    nodes: list[Node] = []
    for part in block.blocks("nodes"):
        nodes.extend(_nodes(part, first=len(nodes) + 1, first_gpu=sum(len(node.gpus) for node in nodes) + 1))
        part.done()
    if not nodes:
        raise block.bad("nodes", "there must be at least one node")
    names = [node.name for node in nodes]
    for name in names:
        if names.count(name) > 1:
            raise block.bad("nodes", f"the name {name!r} comes twice")
    pools = tuple(dict.fromkeys(node.pool for node in nodes))
    team_block = block.block("teams")
    teams, pools_of = _teams(team_block, pools)
    _check_guarantees(team_block, teams, _capacity(nodes))
    return Site(
        nodes=tuple(nodes),
        pools=tuple(Pool(name) for name in pools),  # without a reference node CPU and memory cost nothing extra
        teams=teams,
        open_to_all=not teams,
        pools_of=pools_of,
    )


def _nodes(block: Block, *, first: int, first_gpu: int) -> list[Node]:
    count, gpus = block.integer("count", 1, least=1), block.integer("gpus", 0)
    name, labels = block.text("name"), block.block("labels")
    model, memory = block.text("model", ""), int(block.number("gpu_memory_gib", 0) * 1024)
    islands, mig = block.integer("nvlink_island_gpus", gpus), block.boolean("mig", False)
    if mig and gpus and model not in PROFILES:
        known = ", ".join(sorted(PROFILES))
        raise block.bad(
            "model", f"how {model or 'a card without a model'} can be cut (mig) is not known, only: {known}"
        )
    made = Node(
        id=0,
        name=name,
        pool=block.text("pool", "default"),
        cpu_millis=int(block.number("cpus", 1_000_000) * 1000),
        memory_mib=int(block.number("memory_gib", 1_000_000) * 1024),
        labels=tuple(sorted((key, labels.text(key)) for key in labels.names_of_keys())),
        path=block.names("path"),
    )
    cards = [
        Gpu(id=0, model=model, memory_mib=memory, island=place // islands if islands else 0, mig=mig)
        for place in range(gpus)
    ]
    return [
        Node(
            id=first + copy,
            name=name if count == 1 else f"{name}-{copy + 1}",
            pool=made.pool,
            cpu_millis=made.cpu_millis,
            memory_mib=made.memory_mib,
            gpus=tuple(
                Gpu(first_gpu + copy * gpus + place, card.model, card.memory_mib, card.island, card.mig)
                for place, card in enumerate(cards)
            ),
            labels=made.labels,
            path=made.path,
        )
        for copy in range(count)
    ]


def _teams(block: Block, pools: tuple[str, ...]) -> tuple[tuple[Team, ...], dict[int, tuple[str, ...]]]:
    ids = {name: number for number, name in enumerate(block.names_of_keys(), start=1)}
    teams, pools_of = [], {}
    for name, number in ids.items():
        part = block.block(name)
        parent = part.text("parent", "")
        if parent and parent not in ids:
            raise part.bad("parent", f"there is no team {parent!r}")
        weight = part.integer("weight", 1)
        quotas = part.block("quota")
        teams.append(
            Team(
                id=number,
                name=name,
                parent=ids[parent] if parent else 0,
                quotas=tuple(_quota(quotas, pool, pools, weight) for pool in quotas.names_of_keys())
                or tuple(Quota(pool, weight=weight) for pool in pools),
                min_runtime_s=part.integer("min_runtime_s", 0),
            )
        )
        if part.has("pools"):
            pools_of[number] = part.names("pools")
            for pool in pools_of[number]:
                if pool not in pools:
                    raise part.bad("pools", f"no node is in the pool {pool!r}")
        part.done()
    _check_tree(block, teams)
    return tuple(teams), pools_of


def _quota(quotas: Block, pool: str, pools: tuple[str, ...], weight: int) -> Quota:
    if pool not in pools:
        raise quotas.bad(pool, f"no node is in this pool; there are {', '.join(pools)}")
    block = quotas.block(pool)
    if block.has("guaranteed_gpus") and block.has("guaranteed_percent"):
        raise block.bad("guaranteed_percent", "give GPUs or percent, not both")
    quota = Quota(
        pool=pool,
        guaranteed=_units(block, "guaranteed_gpus") or 0,
        percent_milli=round(block.number("guaranteed_percent", 0) * MILLI_PERCENT),
        borrow_limit=_units(block, "borrow_gpus"),
        lend_limit=_units(block, "lend_gpus"),
        weight=block.integer("weight", weight),
        user_limit=_units(block, "user_gpus"),
    )
    block.done()
    return quota


def _units(block: Block, key: str) -> int | None:
    return round(block.number(key) * GPU_UNITS) if block.has(key) else None


def _check_tree(block: Block, teams: list[Team]) -> None:
    parent_of, name_of = {team.id: team.parent for team in teams}, {team.id: team.name for team in teams}
    for team in teams:
        seen, at = [team.id], team.parent
        while at:
            if at in seen:
                cycle = " under ".join(name_of[member] for member in [*seen[seen.index(at) :], at])
                raise block.bad(f"{name_of[at]}.parent", f"the team tree has a cycle: {cycle}")
            seen.append(at)
            at = parent_of[at]


def _capacity(nodes: list[Node]) -> dict[str, int]:
    """Units of each pool; a pool without any GPU counts thousandths of cores."""
    gpus: dict[str, int] = {}
    cores: dict[str, int] = {}
    for node in nodes:
        gpus[node.pool] = gpus.get(node.pool, 0) + len(node.gpus) * GPU_UNITS
        cores[node.pool] = cores.get(node.pool, 0) + node.cpu_millis
    return {pool: units or cores[pool] for pool, units in gpus.items()}


def _check_guarantees(block: Block, teams: tuple[Team, ...], capacity: dict[str, int]) -> None:
    """Children's guarantees within their parent's, and those of the top level within what the pool has."""

    def promised(team: Team, pool: str) -> int:
        """A team that states nothing has what those below it have together."""
        quota = next((quota for quota in team.quotas if quota.pool == pool), None)
        own = quota.guaranteed + quota.percent_milli * capacity[pool] // (100 * MILLI_PERCENT) if quota else 0
        return own or sum(promised(child, pool) for child in teams if child.parent == team.id)

    for pool, units in capacity.items():
        for parent in (None, *teams):
            own = units if parent is None else promised(parent, pool)
            children = [team for team in teams if team.parent == (parent.id if parent else 0)]
            total = sum(promised(child, pool) for child in children)
            if total > own and children:
                worst = max(children, key=lambda child: promised(child, pool))
                whose = f"the pool {pool} has" if parent is None else f"{parent.name} has in {pool}"
                raise block.bad(
                    f"{worst.name}.quota.{pool}",
                    f"guarantees of {total / GPU_UNITS:g} GPUs together, and {whose} {own / GPU_UNITS:g}",
                )
