"""Why a job waits: a code with numbers from the same pass that decided, and the one sentence that people read."""

from collections.abc import Mapping

from scheduling.core.cluster import Ask
from scheduling.core.decisions import Hold, HoldCode
from scheduling.core.ledger import Ledger
from scheduling.core.placement import could_ever_fit, fits_now

SENTENCES: dict[HoldCode, str] = {
    HoldCode.NO_NODES: "No node accepts work right now; it starts as soon as one is back.",
    HoldCode.NEVER_FITS: "It asks for {gpus} GPUs, {cpus} CPU cores and {memory_gib} GiB of memory on one node, "
    "and no node has that much. Ask for less.",
    HoldCode.GPUS_BUSY: "It needs {gpus} on one node; the most that is free on one is {free_gpus}.",
    HoldCode.CPU_BUSY: "It needs {cpus} CPU cores on one node; the most that is free beside its GPUs is {free_cpus}.",
    HoldCode.MEMORY_BUSY: "It needs {memory_gib} GiB of memory on one node; the most that is free is {free_memory_gib}.",
    HoldCode.BEHIND: "{ahead} ahead of it in the queue.",
}

_COUNTED = {"gpus": ("GPU", "GPUs"), "ahead": ("job is", "jobs are")}


def sentence(code: str, numbers: Mapping[str, int]) -> str:
    """The sentence for a stored code and its numbers. Thousandths and MiB are turned into cores and GiB."""
    try:
        template = SENTENCES[HoldCode(code)]
    except ValueError:
        return ""
    words: dict[str, str] = {name: str(value) for name, value in numbers.items()}
    for name in ("cpu", "free_cpu"):
        if f"{name}_millis" in numbers:
            words[f"{name}s"] = f"{numbers[f'{name}_millis'] / 1000:g}"
    for name in ("memory", "free_memory"):
        if f"{name}_mib" in numbers:
            words[f"{name}_gib"] = f"{numbers[f'{name}_mib'] / 1024:.3g}"
    for name, (one, many) in _COUNTED.items():
        if name in numbers:
            words[name] = f"{numbers[name]} {one if numbers[name] == 1 else many}"
    if code == HoldCode.NEVER_FITS:
        words["gpus"] = str(numbers["gpus"])
    return template.format(**words)


def why_not(ask: Ask, ledger: Ledger, position: int) -> Hold:
    """The dominant obstacle for an ask that found no place: GPUs before CPU before memory."""
    nodes = ledger.accepting()

    def hold(code: HoldCode, **numbers: int) -> Hold:
        return Hold(
            job=ask.job, version=ask.version, code=code, position=position, numbers=tuple(sorted(numbers.items()))
        )

    if not nodes:
        return hold(HoldCode.NO_NODES)
    possible = [node for node in nodes if could_ever_fit(ask, node)]
    if not possible:
        return hold(
            HoldCode.NEVER_FITS, gpus=ask.gpus, cpu_millis=ask.cpu_millis, memory_mib=ask.memory_mib
        )
    if ask.replicas > 1 and any(fits_now(ask, node, ledger) for node in possible):
        # One replica fits and the gang does not: what is short is what the last replicas miss, GPUs if it asks for any.
        code = HoldCode.GPUS_BUSY if ask.gpus else HoldCode.CPU_BUSY
        return hold(
            code,
            gpus=ask.gpus,
            free_gpus=max(ledger.free_slots(n.id) for n in possible),
            cpu_millis=ask.cpu_millis,
            free_cpu_millis=max(ledger.free_cpu(n.id) for n in possible),
        )
    with_gpus = [node for node in possible if ledger.free_slots(node.id) >= ask.gpus]
    if not with_gpus:
        return hold(
            HoldCode.GPUS_BUSY, gpus=ask.gpus, free_gpus=max(ledger.free_slots(n.id) for n in possible)
        )
    with_cpu = [node for node in with_gpus if ledger.free_cpu(node.id) >= ask.cpu_millis]
    if not with_cpu:
        return hold(
            HoldCode.CPU_BUSY,
            cpu_millis=ask.cpu_millis,
            free_cpu_millis=max(ledger.free_cpu(n.id) for n in with_gpus),
        )
    return hold(
        HoldCode.MEMORY_BUSY,
        memory_mib=ask.memory_mib,
        free_memory_mib=max(ledger.free_memory(n.id) for n in with_cpu),
    )


def behind(ask: Ask, position: int, ahead: int) -> Hold:
    """It would fit, but an older job that is waiting for the same GPUs goes first."""
    return Hold(
        job=ask.job, version=ask.version, code=HoldCode.BEHIND, position=position, numbers=(("ahead", ahead),)
    )
