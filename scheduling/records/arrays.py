"""Arrays: one row for any number of tasks. A task becomes a row of its own in the transaction that gives it a place.

Until then it is an ask like its siblings, with a number that says which one it is; the core sees so many identical
jobs, and knows nothing of arrays. The array's row stays in the queue, holds nothing, and ends with its last task
(`array_ends`). Its version does not move with its tasks, so that they stay the same asks from cycle to cycle.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any

from django.db.models import Count

from scheduling.core.cluster import Ask
from scheduling.core.decisions import Hold, Plan, Reserve
from scheduling.core.lifecycle import FINAL
from scheduling.core.terms import Terms
from scheduling.models import Job, JobTransition
from scheduling.records.holds import TermsOf
from scheduling.records.ranges import each, gather
from scheduling.shaping import ask_of

log = logging.getLogger("berth.enact")

#: above all jobs' numbers, below those that the core gives to what-if questions
_TASK, _INDEX_BITS = 1 << 61, 24
#: what a task does not have from its array
_OWN = frozenset({"id", "name", "array", "array_index", "array_spec", "array_size", "array_limit", "array_waiting",
                  "array_left", "hold_code", "hold_numbers", "terms"})  # fmt: skip


def ask_number(array: int, index: int) -> int:
    """The number that a task has as an ask: of one array they rise with the index."""
    return _TASK | array << _INDEX_BITS | index


def task_of(ask: int) -> tuple[int, int] | None:
    """(array, index) of an ask that is a task without a row; None for a job."""
    if not ask & _TASK:
        return None
    return (ask ^ _TASK) >> _INDEX_BITS, ask & ((1 << _INDEX_BITS) - 1)


def first_ask(job: Job) -> int:
    """The ask by which the core knows this row: its own number, or that of an array's next task."""
    return ask_number(job.pk, next(each(job.array_waiting), 0)) if job.array_size else job.pk


# ---------------------------------------------------------------------------------------------------- before the plan
def at_work() -> Mapping[int, int]:
    """How many tasks of each array have a row and have not ended. One query."""
    rows = Job.objects.filter(array__isnull=False).exclude(state__in=FINAL).order_by()
    return dict(rows.values_list("array").annotate(count=Count("pk")))


def asks_of(job: Job, live: Mapping[int, int]) -> tuple[Ask, ...]:
    """What a waiting row asks for: a job once, an array once for each task that may start now. live: `at_work`."""
    ask = ask_of(job)
    if not job.array_size:
        return (ask,)
    room = job.array_left if job.array_limit is None else max(0, job.array_limit - live.get(job.pk, 0))
    return tuple(replace(ask, job=ask_number(job.pk, index)) for index in islice(each(job.array_waiting), room))


# ---------------------------------------------------------------------------------------------------- after the plan
def with_rows(plan: Plan, terms: TermsOf | None, *, now: datetime) -> tuple[Plan, TermsOf | None]:
    """The plan in which every task that gets a place, or a claim to one, is a row, made here; the first of those that
    wait speaks for its array. What was decided for an array that has changed is left out.

    Call it in the transaction that enacts the plan, before anything else of it: arrays are locked before pools.
    """
    chosen = {place.job: place.version for place in plan.places if task_of(place.job)}
    versions = {hold.job: hold.version for hold in plan.holds}
    chosen |= {claim.job: versions[claim.job] for claim in plan.claims if task_of(claim.job)}
    if not chosen and not any(task_of(hold.job) for hold in plan.holds):
        return plan, terms
    rows = _make_rows(chosen, now)
    names = {ask: row.pk for ask, row in rows.items()}

    def stands(job: int) -> bool:
        return job in names or not task_of(job)

    def name(job: int) -> int:
        return names.get(job, job)

    holds, spoken_for = _holds(plan.holds, rows, chosen)
    decided = replace(
        plan,
        places=tuple(
            replace(place, job=name(place.job), version=1 if place.job in names else place.version)
            for place in plan.places
            if stands(place.job)
        ),
        claims=tuple(replace(claim, job=name(claim.job)) for claim in plan.claims if stands(claim.job)),
        stops=tuple(
            replace(stop, beneficiary=name(stop.beneficiary)) for stop in plan.stops if stands(stop.beneficiary)
        ),
        credits=tuple(
            replace(given, beneficiary=name(given.beneficiary)) for given in plan.credits if stands(given.beneficiary)
        ),
        reserves=_reserves(plan.reserves),
        holds=holds,
    )
    asks = {row: ask for ask, row in names.items()} | spoken_for
    return decided, None if terms is None else lambda jobs: _terms_of(terms, jobs, asks)


def _terms_of(terms: TermsOf, jobs: Sequence[int], asks: Mapping[int, int]) -> dict[int, Terms]:
    found = terms([asks.get(job, job) for job in jobs])
    return {job: found[ask] for job in jobs if (ask := asks.get(job, job)) in found}


def _holds(
    holds: Sequence[Hold], rows: Mapping[int, Job], chosen: Mapping[int, int]
) -> tuple[tuple[Hold, ...], dict[int, int]]:
    """The holds with one for each array, and which of its asks it was."""
    told, speakers = [], dict[int, int]()
    for hold in holds:
        task = task_of(hold.job)
        if task is None:
            told.append(hold)
        elif hold.job in rows:
            told.append(replace(hold, job=rows[hold.job].pk, version=1))
        elif hold.job not in chosen and task[0] not in speakers:
            speakers[task[0]] = hold.job
            told.append(replace(hold, job=task[0]))
    return tuple(told), speakers


def _reserves(reserves: Sequence[Reserve]) -> tuple[Reserve, ...]:
    """The earliest for each array."""
    first: dict[int, Reserve] = {}
    for reserve in reserves:
        task = task_of(reserve.job)
        job = task[0] if task else reserve.job
        if job not in first or reserve.at < first[job].at:
            first[job] = replace(reserve, job=job)
    return tuple(first.values())


def _make_rows(chosen: Mapping[int, int], now: datetime) -> dict[int, Job]:
    """Rows for these asks (ask -> version of the array), as far as their arrays still wait for them."""
    wanted: dict[int, list[int]] = defaultdict(list)
    for ask in chosen:
        number, index = task_of(ask) or (0, 0)
        wanted[number].append(index)
    rows: dict[int, Job] = {}
    if not wanted:
        return rows
    arrays = Job.objects.select_for_update().filter(pk__in=list(wanted), state="queued").order_by("pk")
    for array in arrays:
        waiting = set(each(array.array_waiting))
        taken = {
            index
            for index in wanted[array.pk]
            if index in waiting and chosen[ask_number(array.pk, index)] == array.version
        }
        rows |= {ask_number(array.pk, index): _row(array, index) for index in sorted(taken)}
        left = sorted(waiting - taken)
        Job.objects.filter(pk=array.pk).update(array_waiting=gather(left), array_left=len(left))
    if len(rows) < len(chosen):
        log.info("left out: %s tasks of arrays that changed in the meantime", len(chosen) - len(rows))
    Job.objects.bulk_create(rows.values())
    JobTransition.objects.bulk_create(
        JobTransition(job=row, attempt=0, to_state=row.state, event="submit", at=row.submitted_at)
        for row in rows.values()
    )
    return rows


def _row(array: Job, index: int) -> Job:
    given: dict[str, Any] = {
        column.attname: getattr(array, column.attname)
        for column in Job._meta.concrete_fields
        if column.name not in _OWN
    }
    given |= {"name": f"{array.name}[{index}]", "array_id": array.pk, "array_index": index, "version": 1}
    return Job(**given)
