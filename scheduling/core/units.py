"""Integer GPU units: what a whole card, a MIG instance and a fraction cost, so that every sum is exact.

42,000 is divisible by 1,000 (thousandths of a card), by 7 (MIG compute slices) and by 8 (MIG memory slots).
"""

GPU_UNITS = 42_000
_PER_COMPUTE_SLICE = 3_000  # half of a card spread over 7 compute slices
_PER_MEMORY_SLOT = 2_625  # the other half over 8 memory slots


def whole(gpus: int) -> int:
    """Units of `gpus` whole cards."""
    return gpus * GPU_UNITS


def fraction(thousandths: int) -> int:
    """Units of a shared slot of `thousandths`/1000 of a card."""
    if not 0 < thousandths <= 1000:
        raise ValueError(f"a fraction is 1 to 1000 thousandths, not {thousandths}")
    return thousandths * (GPU_UNITS // 1000)


def mig(*, compute_slices: int, memory_slots: int) -> int:
    """Units of a MIG instance of c of 7 compute slices and m of 8 memory slots: 3,000 c + 2,625 m."""
    if not (1 <= compute_slices <= 7 and 1 <= memory_slots <= 8):
        raise ValueError(f"no MIG instance has {compute_slices} compute slices and {memory_slots} memory slots")
    return compute_slices * _PER_COMPUTE_SLICE + memory_slots * _PER_MEMORY_SLOT


def charge(*, gpu_units: int, cpu_millis: int, memory_mib: int, reference: tuple[int, int, int], gpu_pool: bool) -> int:
    """What one replica costs its team: the largest of its GPU units and what its CPU and memory would be in GPUs.

    `reference`: GPUs, CPU and memory of the pool's reference node; (0, 0, 0): only the GPUs count. In a pool without
    GPUs the unit is a thousandth of a core, and memory counts as the cores of the reference node that come with it.
    """
    gpus, cpu, memory = reference
    if not gpu_pool:
        return max(cpu_millis, -(-memory_mib * cpu // memory) if cpu and memory else 0)
    cost = gpu_units
    if gpus and cpu:
        cost = max(cost, -(-cpu_millis * gpus * GPU_UNITS // cpu))
    if gpus and memory:
        cost = max(cost, -(-memory_mib * gpus * GPU_UNITS // memory))
    return cost
