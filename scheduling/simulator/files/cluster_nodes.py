"""The machines of a cluster file: `nodes`, each line one machine or several alike, and the `pools` that they form."""

from dataclasses import replace

from scheduling.core import mig
from scheduling.core.machines import Gpu, Instance, Node, Pool, reference_flaw
from scheduling.simulator.files.reading import Block

#: more than these nobody has; beyond, only memory would be filled
MOST_NODES, MOST_GPUS = 100_000, 256
#: where a file says nothing of CPU and memory they do not bind
ENOUGH = 1_000_000


def nodes_of(block: Block, levels: tuple[str, ...] | None) -> tuple[Node, ...]:
    """All machines, numbered as they stand there. `levels`: those of the policy, which no path may exceed; None: not
    known."""
    nodes: list[Node] = []
    gpus, names = 0, set[str]()
    for part in block.blocks("nodes"):
        alike = _alike(part, len(nodes) + 1, gpus + 1, levels)
        part.done()
        for node in alike:
            if node.name in names:
                raise block.bad("nodes", f"the name {node.name!r} comes twice")
            names.add(node.name)
        nodes += alike
        gpus += sum(len(node.gpus) for node in alike)
        if len(nodes) > MOST_NODES:
            raise block.bad("nodes", f"there are more than {MOST_NODES:,} nodes")
    if not nodes:
        raise block.bad("nodes", "there must be at least one node")
    return tuple(nodes)


def _alike(block: Block, first: int, first_gpu: int, levels: tuple[str, ...] | None) -> list[Node]:
    """`count` machines of one line: NAME, or NAME-1, NAME-2 and so on."""
    count, name, labels = block.integer("count", 1, least=1, most=MOST_NODES), block.text("name"), block.block("labels")
    cards, draining = _cards(block), block.boolean("draining", False)
    path = block.names("path")
    if levels is not None and len(path) > len(levels):
        known = ", ".join(levels) or "none"
        raise block.bad("path", f"{len(path)} domains, and the policy has {len(levels)} levels: {known}")
    cpus, memory = block.number("cpus", ENOUGH), block.number("memory_gib", ENOUGH)
    reserved_cpus, reserved_memory = block.number("reserved_cpus", 0), block.number("reserved_memory_gib", 0)
    if reserved_cpus > cpus:
        raise block.bad("reserved_cpus", f"{reserved_cpus:g} of {cpus:g} cores")
    if reserved_memory > memory:
        raise block.bad("reserved_memory_gib", f"{reserved_memory:g} of {memory:g} GiB")
    return [
        Node(
            id=first + copy,
            name=name if count == 1 else f"{name}-{copy + 1}",
            pool=block.text("pool", "default"),
            cpu_millis=int(cpus * 1000),
            memory_mib=int(memory * 1024),
            gpus=tuple(
                replace(card, id=first_gpu + copy * len(cards) + place) for place, card in enumerate(cards)
            ),
            accepts=block.boolean("accepts", True) and not draining,
            labels=tuple(sorted((key, labels.text(key)) for key in labels.names_of_keys())),
            path=path,
            reserved_cpu_millis=int(reserved_cpus * 1000),
            reserved_memory_mib=int(reserved_memory * 1024),
            draining=draining,
            out_of_order=block.integer("out_of_order", 0, most=MOST_GPUS),
        )
        for copy in range(count)
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------ cards
def _cards(block: Block) -> list[Gpu]:
    """`gpus` equal ones, or `cards`: a list of kinds, each with a count."""
    if not block.has("cards"):
        gpus = block.integer("gpus", 0, most=MOST_GPUS)
        each = block.integer("nvlink_island_gpus", gpus)
        cards = _card(block, memory="gpu_memory_gib", count=gpus)
        return [replace(card, island=place // each if each else 0) for place, card in enumerate(cards)]
    for key in ("gpus", "model", "gpu_memory_gib", "mig", "layout", "nvlink_island_gpus"):
        if block.has(key):
            raise block.bad(key, "say it of the cards: cards says which there are")
    cards = []
    for part in block.blocks("cards"):
        count, island = part.integer("count", 1, least=1, most=MOST_GPUS), part.integer("nvlink_island", 0)
        cards += [replace(card, island=island) for card in _card(part, memory="memory_gib", count=count)]
        part.done()
    if len(cards) > MOST_GPUS:
        raise block.bad("cards", f"{len(cards):,} on one node; at most {MOST_GPUS} can be")
    return cards


def _card(block: Block, *, memory: str, count: int) -> list[Gpu]:
    model, may_be_cut = block.text("model", ""), block.boolean("mig", False)
    if may_be_cut and count and model not in mig.PROFILES:
        known = ", ".join(sorted(mig.PROFILES))
        what = f"how {model or 'a card without a model'} can be cut (mig) is not known, only: {known}"
        raise block.bad("model", what)
    layout = _layout(block, model)
    return [Gpu(0, model, int(block.number(memory, 0) * 1024), mig=may_be_cut, layout=layout)] * count


def _layout(block: Block, model: str) -> tuple[Instance, ...]:
    """MIG instances that exist at the start, as `3g.40gb@4`: the profile and its first memory slot. Of a card without
    `mig` they stay for good."""
    instances = []
    for number, text in enumerate(block.names("layout")):
        key = f"layout[{number}]"
        profile, _, start = text.partition("@")
        if model not in mig.PROFILES:
            raise block.bad(key, f"how {model or 'a card without a model'} can be cut is not known")
        if profile not in mig.PROFILES[model] or not (start.isascii() and start.isdecimal() and len(start) < 3):
            known = ", ".join(sorted(mig.PROFILES[model]))
            raise block.bad(key, f"{text!r} is no instance such as 3g.40gb@4; profiles of this card: {known}")
        instances.append(Instance(profile, int(start)))
        if not mig.legal(model, instances):
            raise block.bad(key, f"{text} cannot be there beside the instances before it")
    return tuple(sorted(instances, key=lambda instance: (instance.start, instance.profile)))


# ------------------------------------------------------------------------------------------------ pools
def pools_of(block: Block, nodes: tuple[Node, ...]) -> tuple[Pool, ...]:
    """Every pool that has a node; `pools` may say of each which node it is reckoned by. Without that CPU and memory
    cost nothing extra."""
    has_gpus: dict[str, bool] = {}
    for node in nodes:
        has_gpus[node.pool] = has_gpus.get(node.pool, False) or bool(node.gpus)
    told, pools = block.block("pools"), {name: Pool(name) for name in has_gpus}
    for name in told.names_of_keys():
        if name not in pools:
            raise told.bad(name, f"no node is in this pool; there are {', '.join(pools)}")
        part = told.block(name)
        pools[name] = _reference(part, name, has_gpus[name])
    return tuple(pools.values())


def _reference(block: Block, name: str, has_gpus: bool) -> Pool:
    gpus = block.integer("reference_gpus", 0, most=MOST_GPUS)
    cpus, memory = block.number("reference_cpus", 0), block.number("reference_memory_gib", 0)
    block.done()
    reference = (gpus, int(cpus * 1000), int(memory * 1024))
    flaw = reference_flaw(reference, gpu_pool=has_gpus)
    if flaw is not None:
        raise block.bad(f"reference_{flaw[0]}", flaw[1])
    return Pool(name, *reference)
