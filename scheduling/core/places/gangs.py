"""A place for every replica of a gang, or none: the smallest topology domain that holds it, filled as fully as possible
(Kueue's and KAI's rule)."""

from collections.abc import Iterator

from scheduling.core.cluster import Part, Shape
from scheduling.core.ledger import Host
from scheduling.core.places.filters import Fitting, Options, Want
from scheduling.core.places.openings import Openings

#: the narrowest level, below those of `Policy.levels`
NODE = "node"


def take_gang(openings: Openings, want: Want, groups: Options) -> tuple[Part, ...] | None:
    """Take a place for every replica in the first domain that really holds them; else take nothing."""
    fitting = capacities(openings, want, groups)
    if sum(count for count, _, _ in fitting) < want.shape.replicas:
        return None
    for domain in domains(openings.policy.levels, want.shape, fitting):
        parts = _fill(openings, want, domain)
        if parts is not None:
            return parts
    return None


# -------------------------------------------------------------------------------------------- how many fit where
def capacities(openings: Openings, want: Want, groups: Options) -> Fitting:
    """(replicas that fit, node, its suitable cards) for every node that has room for at least one, by id."""
    shape, hosts = want.shape, openings.ledger.hosts
    found: Fitting = []
    if shape.wants_gpu and not shape.gpus:
        # Gangs of slices: any accepting node may help; how many fit is found by trying, one replica at a time.
        found = [
            (shape.replicas, hosts[host_id], suitable)
            for group, suitable in groups
            for bucket in group.buckets
            for host_id in bucket
        ]
    else:
        for group, suitable in groups:
            for count in range(shape.gpus, group.size + 1):
                for host_id in group.buckets[count]:
                    fits = _fit_count(openings, hosts[host_id], want, suitable)
                    if fits:
                        found.append((fits, hosts[host_id], suitable))
    found.sort(key=lambda entry: entry[1].id)
    return found


def _fit_count(openings: Openings, host: Host, want: Want, suitable: int) -> int:
    shape = want.shape
    if shape.gpus:
        cards = openings.cards_for(host, want, suitable)
        if not cards:
            return 0
        cpu, memory = host.cpu, host.memory
        if host.id in openings.promises.hosts:
            _, cpu, memory = openings.promises.limits(host, want.team, want.until)
        count = cards.bit_count() // shape.gpus
    else:
        cpu, memory = openings.spare(host, want)
        count = shape.replicas
    if shape.cpu_millis:
        count = min(count, cpu // shape.cpu_millis)
    if shape.memory_mib:
        count = min(count, memory // shape.memory_mib)
    return max(0, count)


# -------------------------------------------------------------------------------------------- topology
def domains(levels: tuple[str, ...], shape: Shape, fitting: Fitting) -> Iterator[Fitting]:
    """Sets of nodes to try, smallest domain first; never wider than the required level. `levels`: as in Policy.

    A level that the policy does not name (any more) has no domains: what requires it waits, and is not spread instead.
    """
    levels = (*levels, NODE)
    if shape.required and shape.required not in levels:
        return
    widest = levels.index(shape.required) if shape.required else -1
    for depth in range(len(levels) - 1, widest - 1, -1):
        inside: dict[tuple[str, ...], Fitting] = {}
        if depth == -1:
            inside[()] = fitting
        else:
            for entry in fitting:
                key = domain_of(entry[1], depth, len(levels))
                if key is not None:
                    inside.setdefault(key, []).append(entry)
        holding = [
            (sum(count for count, _, _ in entries), key)
            for key, entries in inside.items()
            if sum(count for count, _, _ in entries) >= shape.replicas
        ]
        for _, key in sorted(holding):
            yield inside[key]


def domain_of(host: Host, depth: int, levels: int) -> tuple[str, ...] | None:
    """The name of the domain of this level that the node is in, or None where the node does not say."""
    if depth == levels - 1:
        return (str(host.id).zfill(12),)
    path = host.node.path
    return path[: depth + 1] if len(path) > depth else None


# -------------------------------------------------------------------------------------------- fill
def _fill(openings: Openings, want: Want, domain: Fitting) -> tuple[Part, ...] | None:
    """Replica by replica: the tightest node that takes all the rest, else the one that takes most."""
    ledger, shape = openings.ledger, want.shape
    mark = ledger.checkpoint()
    parts: list[Part] = []
    rest = {entry[1].id: entry for entry in domain}
    while len(parts) < shape.replicas and rest:
        missing = shape.replicas - len(parts)
        enough = [entry for entry in rest.values() if entry[0] >= missing]
        chosen = (
            min(enough, key=lambda e: (e[0], e[1].free.bit_count(), e[1].id))
            if enough
            else max(rest.values(), key=lambda e: (e[0], -e[1].id))
        )
        del rest[chosen[1].id]
        for _ in range(min(missing, chosen[0])):
            part = openings.one_here(want, chosen[1], chosen[2])
            if part is None:
                break
            ledger.take(want.job, part)
            parts.append(part)
    if len(parts) < shape.replicas:
        ledger.rollback(mark)
        return None
    ledger.keep(mark)
    return tuple(parts)
