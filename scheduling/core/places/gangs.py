"""A place for every replica of a gang, or none: the smallest topology domain that holds it, filled as fully as possible
(Kueue's and KAI's rule). Replicas that ask for several cards lie in one NVLink island each, as far as the domain has
such islands; where they go comes first, for the reason that `singles` gives."""

from collections.abc import Collection, Iterator, Mapping

from scheduling.core.cluster import Part, Shape
from scheduling.core.ledger import Host
from scheduling.core.places.filters import ISLAND, NODE, Fits, Fitting, Options, Want, by_island
from scheduling.core.places.openings import Openings


def take_gang(openings: Openings, want: Want, groups: Options) -> tuple[Part, ...] | None:
    """Take a place for every replica in the first domain that really holds them; else take nothing."""
    for inside in by_island(groups, want.shape):
        fitting = capacities(openings, want, inside)
        if sum(found.replicas for found in fitting) < want.shape.replicas:
            continue
        for domain in domains(openings.policy.levels, want.shape, fitting):
            parts = _fill(openings, want, domain)
            if parts is not None:
                return parts
    return None


# -------------------------------------------------------------------------------------------- how many fit where
def capacities(openings: Openings, want: Want, groups: Options) -> Fitting:
    """Every node that has room for at least one replica, by id."""
    hosts, gpus = openings.ledger.hosts, want.shape.gpus
    fits = (
        _fits(openings, hosts[host_id], want, suitable)
        for group, suitable in groups
        for count in range(gpus, group.size + 1)
        for host_id in group.buckets[count]
    )
    return sorted((found for found in fits if found.replicas > 0), key=lambda found: found.host.id)


def _fits(openings: Openings, host: Host, want: Want, suitable: int) -> Fits:
    shape, group = want.shape, host.group
    free, barred, cpu, memory = openings.left_on(host, want)
    cards = suitable & ~barred
    count = well = shape.replicas
    if shape.gpus:
        cards &= free
        count = cards.bit_count() // shape.gpus
        well = sum((cards & island).bit_count() // shape.gpus for island in group.islands)
    elif not shape.wants_gpu:
        kept_cpu, kept_memory = openings.kept(host, free)
        cpu, memory = cpu - kept_cpu, memory - kept_memory
    if shape.cpu_millis:
        count = min(count, cpu // shape.cpu_millis)
    if shape.memory_mib:
        count = min(count, memory // shape.memory_mib)
    if shape.wants_gpu and not shape.gpus and count > 0:
        in_use = len(openings.pieces(want, host, cards & ~free, host.cards, count))
        well, count = in_use, in_use + len(openings.pieces(want, host, cards & free, host.cards, count - in_use))
    return Fits(count, host, suitable, min(well, count))


# -------------------------------------------------------------------------------------------- topology
def domains(levels: tuple[str, ...], shape: Shape, fitting: Fitting) -> Iterator[Fitting]:
    """Sets of nodes to try, the narrowest level first, and never wider than the required one. Of one level, those that
    hold the most replicas well, as far as there are so many, then those that hold the fewest in all. `levels`: as in
    Policy.

    A level that the policy does not name (any more) has no domains: what requires it waits, and is not spread instead.
    """
    levels = (*levels, NODE)
    widest = _depth(levels, shape)
    if widest is None:
        return
    for depth in range(len(levels) - 1, widest - 1, -1):
        inside: dict[tuple[str, ...], Fitting] = {}
        if depth == -1:
            inside[()] = fitting
        else:
            for entry in fitting:
                key = domain_of(entry.host, depth, len(levels))
                if key is not None:
                    inside.setdefault(key, []).append(entry)
        holding = [
            (max(0, shape.replicas - sum(entry.well for entry in entries)), count, key)
            for key, entries in inside.items()
            if (count := sum(entry.replicas for entry in entries)) >= shape.replicas
        ]
        for _, _, key in sorted(holding):
            yield inside[key]


def domains_of(levels: tuple[str, ...], shape: Shape, groups: Options, hosts: Mapping[int, Host]) -> list[set[int]]:
    """The accepting nodes of each domain of the required level, in the order of its name."""
    levels = (*levels, NODE)
    depth = _depth(levels, shape)
    found: dict[tuple[str, ...], set[int]] = {}
    if depth is None:
        return []
    for host_id in (i for group, _ in groups for bucket in group.buckets for i in bucket):
        key = domain_of(hosts[host_id], depth, len(levels))
        if key is not None:
            found.setdefault(key, set()).add(host_id)
    return [found[key] for key in sorted(found)]


def outward(levels: tuple[str, ...], shape: Shape) -> tuple[str, ...]:
    """The levels to which the preferred one leads, itself first, up to the required one or, without that, to the widest
    that the policy names. Each is to be tried as a required one. (Kueue's rule: climb the levels, then spread.)

    None where a level is unknown: what nobody knows is not preferred, and what must lie in it lies nowhere. One replica
    lies on one node in any case, so it has but an island to prefer.
    """
    known = (ISLAND, NODE, *reversed(levels))
    if shape.preferred not in known or (shape.required and shape.required not in known):
        return ()
    widest = known.index(shape.required) if shape.required else len(known)
    found = known[known.index(shape.preferred) : widest]
    return found if shape.replicas > 1 else tuple(level for level in found if level == ISLAND)


def _depth(levels: tuple[str, ...], shape: Shape) -> int | None:
    """How far down the required level is, -1 where none is required; None: it is unknown. What must lie in one island
    lies on one node: whoever asks has split its options `by_island` already."""
    required = NODE if shape.required == ISLAND else shape.required
    if not required:
        return -1
    return levels.index(required) if required in levels else None


def domain_of(host: Host, depth: int, levels: int) -> tuple[str, ...] | None:
    """The name of the domain of this level that the node is in, or None where the node does not say."""
    if depth == levels - 1:
        return (str(host.id).zfill(12),)
    path = host.node.path
    return path[: depth + 1] if len(path) > depth else None


# -------------------------------------------------------------------------------------------- fill
def _fill(openings: Openings, want: Want, domain: Fitting) -> tuple[Part, ...] | None:
    """Replica by replica."""
    ledger, shape = openings.ledger, want.shape
    mark = ledger.checkpoint()
    parts: list[Part] = []
    rest = {entry.host.id: entry for entry in domain}
    while len(parts) < shape.replicas and rest:
        missing = shape.replicas - len(parts)
        chosen = _next_node(rest.values(), missing)
        del rest[chosen.host.id]
        for _ in range(min(missing, chosen.replicas)):
            part = openings.one_here(want, chosen.host, chosen.suitable)
            if part is None:
                break
            ledger.take(want.job, part)
            parts.append(part)
    if len(parts) < shape.replicas:
        ledger.rollback(mark)
        return None
    ledger.keep(mark)
    return tuple(parts)


def _next_node(nodes: Collection[Fits], missing: int) -> Fits:
    """The tightest of those that take all the rest, well where one can; else the one that takes most."""
    enough = [entry for entry in nodes if entry.replicas >= missing]
    if not enough:
        return max(nodes, key=lambda e: (e.replicas, -e.host.id))
    return min(enough, key=lambda e: (max(0, missing - e.well), e.replicas, e.host.free.bit_count(), e.host.id))
