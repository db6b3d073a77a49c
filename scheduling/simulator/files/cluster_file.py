"""A cluster file: machines, pools, teams and a calendar. docs/simulator.md shows every key.

nodes: [{name: a, count: 4, pool: h100, gpus: 8, model: H100, gpu_memory_gib: 80, cpus: 96, memory_gib: 1024}]
teams: {vision: {parent: research, weight: 2, pools: [h100], quota: {h100: {guaranteed_gpus: 16, borrow_gpus: 8}}}}
bookings: [{team: vision, nodes: [a-1, a-2], from: 86400, to: 172800}]
"""

from datetime import UTC, datetime
from pathlib import Path

from scheduling.core.cluster import Booking
from scheduling.simulator.files.cluster_nodes import nodes_of, pools_of
from scheduling.simulator.files.cluster_teams import teams_of
from scheduling.simulator.files.reading import Block, read_file
from scheduling.simulator.site import Site


def read_cluster(path: Path, levels: tuple[str, ...] | None = None) -> Site:
    """Machines, teams and their quotas; refused if the guarantees cannot be met or the tree has a cycle. `levels`:
    those of the policy, if it is known: no node's path may be deeper. Errors: BadFile."""
    return read_file(path, lambda block: _site(block, levels))


def _site(block: Block, levels: tuple[str, ...] | None) -> Site:
    nodes = nodes_of(block, levels)
    pools = pools_of(block, nodes)
    teams, pools_of_team = teams_of(block, nodes, tuple(pool.name for pool in pools))
    site = Site(nodes=nodes, pools=pools, teams=teams, open_to_all=not teams, pools_of=pools_of_team)
    site.bookings = _bookings(block, site)
    return site


# ------------------------------------------------------------------------------------------------ the calendar
def _bookings(block: Block, site: Site) -> tuple[Booking, ...]:
    nodes = {node.name: node.id for node in site.nodes}
    teams = {team.name: team.id for team in site.teams}
    bookings: list[Booking] = []
    booked: dict[int, list[tuple[int, int, str]]] = {}
    for number, part in enumerate(block.blocks("bookings"), start=1):
        team, names = part.text("team"), part.names("nodes")
        if team not in teams:
            raise part.bad("team", f"there is no team {team!r} in this file")
        if not names:
            raise part.bad("nodes", "there must be at least one node")
        starts, ends = _moment(part, "from"), _moment(part, "to")
        if ends <= starts:
            raise part.bad("to", "is not after from")
        for name in names:
            if name not in nodes:
                raise part.bad("nodes", f"there is no node {name!r}")
            for began, ended, other in booked.setdefault(nodes[name], []):
                if began < ends and starts < ended:
                    raise part.bad("nodes", f"{name} is booked for {other} at that time")
            booked[nodes[name]].append((starts, ends, team))
        part.done()
        bookings.append(Booking(number, teams[team], tuple(sorted(nodes[name] for name in names)), starts, ends))
    return tuple(bookings)


def _moment(block: Block, key: str) -> int:
    """Seconds on the axis of the trace; or a time of the calendar, UTC, for traces that count from 1970."""
    if isinstance(block.value(key), int):
        return block.integer(key)
    text = block.text(key)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise block.bad(key, f"{text!r} is neither seconds nor a time such as 2026-12-04T08:00") from None
    seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    if seconds < 0:
        raise block.bad(key, f"{text!r} is before 1970")
    return seconds
