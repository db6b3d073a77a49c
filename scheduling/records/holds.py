"""What the last cycle said of those who wait: the reason and the terms of each, and the places reserved for some."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from scheduling.core.decisions import Hold, Reserve
from scheduling.core.lifecycle import JobState
from scheduling.core.terms import Terms
from scheduling.models import Job, Outlook
from scheduling.news import tell_all

#: the terms of these waiting jobs
TermsOf = Callable[[Sequence[int]], Mapping[int, Terms]]
#: places and numbers are exact for so many; further back they are written anew with the code, or when the place is off
#: by a tenth: else every start would rewrite the whole queue
EXACT_PLACES = 50
#: ... and of so many in one cycle, those first that were written longest ago: a start may move the whole queue by a bit
REFRESHED = 250
#: jobs in one statement; SQLite as Python ships it takes 32,766 parameters
BATCH = 5_000


class Told:
    """What the rows say of those who wait, kept by whoever runs many cycles so that it need not be read anew each time:
    nobody else writes reasons, and a job that moved has another version. Job -> (version, code, numbers); what was
    written longest ago comes first."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[int, str, dict[str, int]]] = {}


def store_holds(holds: Sequence[Hold], terms: TermsOf | None, told: Told | None = None) -> None:
    """Write reasons only where they changed, so that a long queue that stands still costs one query, or none where
    `told` knows. The terms are those of the moment at which the reason was written."""
    if not holds:
        return
    stored = told.known if told is not None and told.known else _stored()
    news: dict[int, tuple[Hold, dict[str, int]]] = {}
    moved: dict[int, tuple[Hold, dict[str, int]]] = {}
    for position, hold in enumerate(holds, start=1):
        version, code, numbers = stored.get(hold.job, (-1, "", {}))
        if told is None and version != hold.version:
            continue  # it moved since the plan
        fresh = {**dict(hold.numbers), "position": position}
        if version != hold.version or code != hold.code:
            news[hold.job] = (hold, fresh)
        elif _differ(numbers, fresh):
            (news if position <= EXACT_PLACES else moved)[hold.job] = (hold, fresh)
    if moved:
        waited = [job for job in stored if job in moved] if len(moved) > REFRESHED else moved
        news |= {job: moved[job] for job in islice(waited, REFRESHED)}
    reasons = terms(list(news)) if terms and news else {}
    rows = [
        (job, hold.version, str(hold.code), numbers, as_json(reasons[job]) if job in reasons else {})
        for job, (hold, numbers) in news.items()
    ]
    for begin in range(0, len(rows), BATCH):
        _write(rows[begin : begin + BATCH])
    if rows:
        tell_all(Job.objects.only("state", "version", "owner_id", "face").filter(pk__in=list(news)))
    if told is not None:
        # Once it is safe: what is rolled back was never said.
        waiting = {hold.job for hold in holds}
        kept = {job: row for job, row in stored.items() if job in waiting and job not in news}
        kept |= {job: (version, code, numbers) for job, version, code, numbers, _ in rows}
        transaction.on_commit(lambda: setattr(told, "known", kept))


def _stored() -> dict[int, tuple[int, str, dict[str, int]]]:
    rows = Job.objects.filter(state=JobState.QUEUED).values_list("pk", "version", "hold_code", "hold_numbers")
    return {job: (version, code, numbers) for job, version, code, numbers in rows}


def _differ(old: Mapping[str, int], new: Mapping[str, int]) -> bool:
    place = new["position"]
    if place <= EXACT_PLACES:
        return old != new
    return abs(place - old.get("position", 0)) * 10 > place


def _write(rows: Sequence[tuple[int, int, str, dict[str, int], dict[str, object]]]) -> None:
    """(job, version, code, numbers, terms), each to its job if that still waits as it did. One statement, which Django
    cannot say: it would write a CASE with as many branches as there are jobs."""
    here = connections[DEFAULT_DB_ALIAS]  # Django's `connection` looks that up each time
    columns = [Job._meta.get_field(name) for name in ("id", "version", "hold_code", "hold_numbers", "terms")]
    values = [
        column.get_db_prep_save(value, here)  # type: ignore[union-attr]
        for row in rows
        for column, value in zip(columns, row, strict=True)
    ]
    with here.cursor() as cursor:
        cursor.execute(
            "WITH news (id, version, code, numbers, terms) AS (VALUES "
            + ", ".join(["(%s, %s, %s, %s, %s)"] * len(rows))
            + ") UPDATE scheduling_job SET hold_code = news.code, hold_numbers = news.numbers, terms = news.terms"
            " FROM news WHERE scheduling_job.id = news.id AND scheduling_job.version = news.version"
            " AND scheduling_job.state = %s",
            [*values, str(JobState.QUEUED)],
        )


def as_json(terms: Terms) -> dict[str, object]:
    """Small and plain, for the job's row; the keys are the fields of `core.terms.Terms`."""
    return {
        "critical": terms.critical,
        "tier": terms.tier,
        "levels": [list(level) for level in terms.levels],
        "person_share": terms.person_share,
        "latest_start": terms.latest_start,
        "priority": terms.priority,
        "size": terms.size,
        "submitted": terms.submitted,
    }


def in_words(terms: Mapping[str, Any], tiers: Sequence[str]) -> str:
    """One line of what `as_json` stored, from the strongest term to the weakest."""
    if not terms:
        return ""
    borrows = any(level[0] for level in terms["levels"])
    words = ["critical"] if terms["critical"] else []
    words.append("beyond its team's guarantee" if borrows else "within its team's guarantee")
    words.append(f"tier {tiers[terms['tier']] if terms['tier'] < len(tiers) else 'unknown'}")
    words.append(
        "team shares " + "/".join(str(level[2]) for level in terms["levels"]) if terms["levels"] else "no share"
    )
    words.append(f"person's share {terms['person_share']}")
    if terms["latest_start"] is not None:
        words.append("with an accepted deadline")
    words.append(f"priority {terms['priority']}")
    return ", ".join(words)


def store_reserves(reserves: Sequence[Reserve], now: datetime) -> None:
    """The reservations of this cycle replace those of the last; a cycle with the same ones writes nothing."""
    rows = [
        {"job": r.job, "at": r.at, "pool": r.pool, "nodes": sorted({part.node for part in r.parts})} for r in reserves
    ]
    stored = Outlook.objects.filter(pk=1).values_list("reserves", flat=True).first()
    if rows != (stored or []):
        Outlook.objects.update_or_create(pk=1, defaults={"at": now, "reserves": rows})
