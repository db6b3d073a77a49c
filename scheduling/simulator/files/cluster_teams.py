"""The teams of a cluster file: their tree, quotas, hours and minimum runtimes. Guarantees that cannot be met are
refused."""

from collections.abc import Iterable

from scheduling.core.cluster import Quota, Team, Window
from scheduling.core.machines import Node
from scheduling.core.units import GPU_UNITS
from scheduling.core.windows import NoWindow, ever_meet, window_from, windows_of
from scheduling.simulator.files.reading import Block

MILLI_PERCENT = 1000


def teams_of(
    block: Block, nodes: tuple[Node, ...], pools: tuple[str, ...]
) -> tuple[tuple[Team, ...], dict[int, tuple[str, ...]]]:
    """All teams, numbered as they stand there, and the pools that a team's jobs use when they do not say."""
    told = block.block("teams")
    ids = {name: number for number, name in enumerate(told.names_of_keys(), start=1)}
    units, teams, pools_of = _Units(nodes), [], {}
    for name, number in ids.items():
        part = told.block(name)
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
                quotas=tuple(_quota(quotas, pool, pools, weight, units) for pool in quotas.names_of_keys())
                or tuple(Quota(pool, weight=weight) for pool in pools),
                windows=_windows(part),
                min_runtime_s=part.integer("min_runtime_s", 0),
            )
        )
        if part.has("pools"):
            pools_of[number] = part.names("pools")
            for pool in pools_of[number]:
                if pool not in pools:
                    raise part.bad("pools", f"no node is in the pool {pool!r}")
        part.done()
    _check_tree(told, teams)
    _check_hours(told, teams)
    _check_guarantees(told, tuple(teams), units)
    return tuple(teams), pools_of


class _Units:
    """What each pool has, and what makes one: a GPU, or a core where no node of the pool has any."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.gpus: dict[str, int] = {}
        self.cores: dict[str, int] = {}
        for node in nodes:
            counts = node.accepts
            self.gpus[node.pool] = self.gpus.get(node.pool, 0) + counts * len(node.gpus) * GPU_UNITS
            self.cores[node.pool] = self.cores.get(node.pool, 0) + counts * node.cpu_millis
        self._gpu_pools = {node.pool for node in nodes if node.gpus}

    def each(self, pool: str) -> tuple[int, str]:
        return (GPU_UNITS, "GPUs") if pool in self._gpu_pools else (1000, "cores")

    def of(self, pool: str) -> int:
        return self.gpus[pool] if pool in self._gpu_pools else self.cores[pool]


def _windows(block: Block) -> tuple[Window, ...]:
    windows = []
    for number, text in enumerate(block.names("windows")):
        try:
            windows.append(window_from(text))
        except NoWindow as error:
            raise block.bad(f"windows[{number}]", str(error)) from None
    return tuple(windows)


def _quota(quotas: Block, pool: str, pools: tuple[str, ...], weight: int, units: _Units) -> Quota:
    if pool not in pools:
        raise quotas.bad(pool, f"no node is in this pool; there are {', '.join(pools)}")
    block = quotas.block(pool)
    size, name = units.each(pool)
    other = "cores" if name == "GPUs" else "gpus"
    for what in ("guaranteed", "borrow", "lend", "user"):
        if block.has(f"{what}_{other}"):
            raise block.bad(f"{what}_{other}", f"the pool {pool} is counted in {name}: {what}_{name.lower()}")

    def amount(what: str) -> int | None:
        key = f"{what}_{name.lower()}"
        return round(block.number(key) * size) if block.has(key) else None

    guaranteed = amount("guaranteed")
    if guaranteed is not None and block.has("guaranteed_percent"):
        raise block.bad("guaranteed_percent", f"give {name} or percent, not both")
    quota = Quota(
        pool=pool,
        guaranteed=guaranteed or 0,
        percent_milli=round(block.number("guaranteed_percent", 0) * MILLI_PERCENT),
        borrow_limit=amount("borrow"),
        lend_limit=amount("lend"),
        weight=block.integer("weight", weight),
        user_limit=amount("user"),
    )
    block.done()
    return quota


# ------------------------------------------------------------------------------------------------ the tree as a whole
def _check_tree(block: Block, teams: list[Team]) -> None:
    parent_of, name_of = {team.id: team.parent for team in teams}, {team.id: team.name for team in teams}
    sound: set[int] = set()
    for team in teams:
        seen, at = [team.id], team.parent
        while at and at not in sound:
            if at in seen:
                cycle = " under ".join(name_of[member] for member in [*seen[seen.index(at) :], at])
                raise block.bad(f"{name_of[at]}.parent", f"the team tree has a cycle: {cycle}")
            seen.append(at)
            at = parent_of[at]
        sound.update(seen)


def _check_hours(block: Block, teams: list[Team]) -> None:
    tree = {team.id: team for team in teams}
    for team in teams:
        if team.windows and not ever_meet(windows_of(team.id, tree)):
            raise block.bad(
                f"{team.name}.windows", "it could never start anything: they never meet those of the teams above it"
            )


def _check_guarantees(block: Block, teams: tuple[Team, ...], units: _Units) -> None:
    """Children's guarantees within their parent's, and those of the top level within what the pool has."""
    children: dict[int, list[Team]] = {}
    for team in teams:
        children.setdefault(team.parent, []).append(team)
    for pool in units.gpus:
        capacity, (size, name) = units.of(pool), units.each(pool)
        promised = _promised(children, pool, capacity)
        for parent in (None, *teams):
            own = capacity if parent is None else promised[parent.id]
            below = children.get(parent.id if parent else 0, [])
            total = sum(promised[child.id] for child in below)
            if total > own:
                worst = max(below, key=lambda child: promised[child.id])
                whose = f"the pool {pool} has" if parent is None else f"{parent.name} has in {pool}"
                raise block.bad(
                    f"{worst.name}.quota.{pool}",
                    f"guarantees of {total / size:g} {name} together, and {whose} {own / size:g}",
                )


def _promised(children: dict[int, list[Team]], pool: str, capacity: int) -> dict[int, int]:
    """Units guaranteed to each team; one that states nothing has what those below it have together."""
    order = list(children.get(0, []))
    for team in order:  # grows while it is walked: parents before their children
        order += children.get(team.id, [])
    promised: dict[int, int] = {}
    for team in reversed(order):
        quota = next((quota for quota in team.quotas if quota.pool == pool), None)
        own = quota.guaranteed + quota.percent_milli * capacity // (100 * MILLI_PERCENT) if quota else 0
        promised[team.id] = own or sum(promised[child.id] for child in children.get(team.id, []))
    return promised
