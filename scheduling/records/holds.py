"""What the last cycle said of those who wait: the reason and the terms of each, and the places reserved for some."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from scheduling.core.decisions import Hold, Reserve
from scheduling.core.lifecycle import JobState
from scheduling.core.terms import Terms
from scheduling.models import Job, Outlook
from scheduling.news import tell

#: the terms of these waiting jobs
TermsOf = Callable[[Sequence[int]], Mapping[int, Terms]]
#: places and numbers are exact for so many; further back they are written anew with the code, or when the place is off
#: by a tenth: else every start would rewrite the whole queue
EXACT_PLACES = 50


def store_holds(holds: Sequence[Hold], terms: TermsOf | None) -> None:
    """Write reasons only where they changed, so that a long queue that stands still costs one query. The terms are
    those of the moment at which the reason was written."""
    if not holds:
        return
    waiting = Job.objects.filter(state=JobState.QUEUED)
    stored = {job: (version, code, numbers) for job, version, code, numbers in
              waiting.values_list("pk", "version", "hold_code", "hold_numbers")}  # fmt: skip
    news: dict[int, tuple[Hold, dict[str, int]]] = {}
    for position, hold in enumerate(holds, start=1):
        version, code, numbers = stored.get(hold.job, (-1, "", {}))
        fresh = {**dict(hold.numbers), "position": position}
        if version == hold.version and (code != str(hold.code) or _differ(numbers, fresh)):
            news[hold.job] = (hold, fresh)
    told = terms(list(news)) if terms and news else {}
    jobs = Job.objects.only("state", "version", "owner_id", "face").in_bulk(list(news))
    for job, (hold, numbers) in news.items():
        why = as_json(told[job]) if job in told else {}
        guarded = Job.objects.filter(pk=job, version=hold.version, state=JobState.QUEUED)
        if guarded.update(hold_code=hold.code, hold_numbers=numbers, terms=why):
            tell(jobs[job])


def _differ(old: Mapping[str, int], new: Mapping[str, int]) -> bool:
    place = new["position"]
    if place <= EXACT_PLACES:
        return old != new
    return abs(place - old.get("position", 0)) * 10 > place


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
