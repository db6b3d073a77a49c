"""What agents may send: shapes of the right kind, whose values fit into the rows that keep them."""

import re
from collections.abc import Iterator
from typing import Any

from portal.kernel.errors import BerthError, Rejected
from scheduling.nodes.driver import GpuInfo, Inventory, Observation
from scheduling.nodes.exchange import Desired, Report
from scheduling.nodes.health import Health
from scheduling.nodes.wire import BadMessage, decode, encode

MOST_BYTES = 8 * 1024 * 1024
_COLUMN = range(2**31)  # of a PositiveIntegerField
_BOOT_MS = range(2**41)  # 69 years since the machine was started
_ALLOCATION = re.compile(r"[0-9]{1,18}")


class BadReport(Rejected):
    """This is not a report that Berth can read: {why}"""


class TooLarge(BerthError):
    """A report may have {most} MiB at most."""

    status = 413


def read_report(data: Any) -> Report:
    """Raises BadReport with the first thing that is wrong."""
    try:
        report = decode(Report, data)
    except BadMessage as error:
        raise BadReport(why=str(error)) from error
    for why in _misfits(report):
        raise BadReport(why=why)
    return report


def _misfits(report: Report) -> Iterator[str]:
    if not report.agent or report.sequence < 1 or report.start < 1:
        yield "agent, start and sequence must say which process speaks."
    if len(report.agent) > 64 or len(report.boot_id) > 64:
        yield "agent and boot_id may have 64 characters."
    for observation in report.observations:
        yield from _odd_observation(observation)
    if report.inventory is not None:
        yield from _odd_inventory(report.inventory)
    for health in report.health:
        if not _is_health(health):
            yield f"the health of the GPU '{health.gpu_uuid[:80]}' has a value that cannot be."


def _odd_observation(seen: Observation) -> Iterator[str]:
    if not _ALLOCATION.fullmatch(seen.allocation):
        yield f"'{seen.allocation[:40]}' is no allocation."
    if len(seen.code) > 60 or len(seen.image_digest) > 100:
        yield "an observation's code may have 60 characters and its image_digest 100."
    if seen.progress is not None and min(seen.progress) < 0:
        yield "an observation's progress cannot be negative."


def _odd_inventory(inventory: Inventory) -> Iterator[str]:
    if inventory.cpu_millis not in _COLUMN or inventory.memory_mib not in _COLUMN:
        yield "an inventory's cpu_millis and memory_mib must be from 0 to 2147483647."
    if len(inventory.driver) > 20 or len(inventory.boot_id) > 64:
        yield "an inventory's driver may have 20 characters and its boot_id 64."
    for gpu in inventory.gpus:
        if not _fits(gpu):
            yield f"the GPU '{gpu.uuid[:80]}' has a UUID, model, index or memory that cannot be."
    if len({gpu.uuid for gpu in inventory.gpus}) != len(inventory.gpus):
        yield "an inventory lists a GPU twice."


def _is_health(health: Health) -> bool:
    short = 0 < len(health.gpu_uuid) <= 80 and len(health.xids) <= 64
    times = [health.boot_ms, *(xid.boot_ms for xid in health.xids)]
    counts = [health.leaked_mib, health.ecc_uncorrected or 0]
    numbers = all(xid.number in _COLUMN for xid in health.xids) and all(time in _BOOT_MS for time in times)
    return short and numbers and min(counts) >= 0


def _fits(gpu: GpuInfo) -> bool:
    memory = 0 if gpu.memory_mib is None else gpu.memory_mib
    return 0 < len(gpu.uuid) <= 80 and len(gpu.model) <= 80 and 0 <= gpu.index < 2**15 - 1 and memory in _COLUMN


def answer(desired: Desired, *, unchanged: bool) -> dict[str, Any]:
    """The desired state for the agent; where it holds this very one, its parts are not sent again."""
    body: dict[str, Any] = encode(desired)
    if unchanged:
        body |= {"unchanged": True}
    return body
