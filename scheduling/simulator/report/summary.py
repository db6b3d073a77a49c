"""The figures of one replay, as they go into JSON, CSV and the page."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from scheduling.simulator.history import History, Record, Sample

HOUR = 3600
#: waits and run times below this count as this in a slowdown: a ten-second job that waits a minute suffered little
SHORT_S = 600


@dataclass(frozen=True, slots=True)
class TeamFigures:
    id: int
    team: str
    jobs: int
    mean_wait_s: float
    p90_wait_s: int
    gpu_hours: float
    slowdown: float


@dataclass(frozen=True, slots=True)
class Figures:
    """`promises_kept`: the share of starts before the estimate's 90th percentile; None where no estimate was made.

    `deadlines`: jobs that have one; `deadlines_accepted`, `deadlines_refused`: of them, at their submission, None where
    nobody weighs them (the baselines). `deadlines_met`: work done in time, accepted or not; `accepted_met`: of those
    that were accepted.
    """

    name: str
    jobs: int
    finished: int
    never_started: int
    timed_out: int
    mean_wait_s: float
    median_wait_s: int
    p90_wait_s: int
    p99_wait_s: int
    mean_completion_s: float
    median_completion_s: int
    p90_completion_s: int
    allocated_percent: float | None
    fragmented_percent: float | None
    suspensions: int
    requeues: int
    gpu_hours_done: float
    gpu_hours_lost: float
    promises: int
    promises_kept: float | None
    deadlines: int
    deadlines_accepted: int | None
    deadlines_refused: int | None
    deadlines_met: int
    accepted_met: int | None
    fairness: float
    plans: int
    span_s: int
    teams: tuple[TeamFigures, ...]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def figures(name: str, history: History, team_names: dict[int, str]) -> Figures:
    records = history.records
    waits = sorted(record.wait_s for record in records if record.wait_s is not None)
    completions = sorted(record.completion_s for record in records if record.completion_s is not None)
    promised = [record for record in records if record.promised is not None and record.first_start is not None]
    kept = sum(
        1 for r in promised if r.first_start is not None and r.promised is not None and r.first_start <= r.promised
    )
    due = [record for record in records if record.job.deadline_s is not None]
    accepted = [record for record in due if record.deadline_accepted]
    weighed = any(record.deadline_accepted is not None for record in due) or not due
    teams = _teams(records, team_names)
    return Figures(
        name=name,
        jobs=len(records),
        finished=len(completions),
        never_started=sum(1 for record in records if record.first_start is None),
        timed_out=sum(1 for record in records if record.timed_out),
        mean_wait_s=_mean(waits),
        median_wait_s=at_share(waits, 0.5),
        p90_wait_s=at_share(waits, 0.9),
        p99_wait_s=at_share(waits, 0.99),
        mean_completion_s=_mean(completions),
        median_completion_s=at_share(completions, 0.5),
        p90_completion_s=at_share(completions, 0.9),
        allocated_percent=_allocated(history),
        fragmented_percent=_percent(history.samples, lambda sample: sample.fragmented),
        suspensions=sum(record.suspensions for record in records),
        requeues=sum(record.requeues for record in records),
        gpu_hours_done=sum(_gpu_seconds(record) for record in records) / HOUR,
        gpu_hours_lost=sum(record.lost_gpu_s for record in records) / HOUR,
        promises=len(promised),
        promises_kept=kept / len(promised) if promised else None,
        deadlines=len(due),
        deadlines_accepted=len(accepted) if weighed else None,
        deadlines_refused=len(due) - len(accepted) if weighed else None,
        deadlines_met=sum(1 for record in due if record.deadline_met),
        accepted_met=sum(1 for record in accepted if record.deadline_met) if weighed else None,
        fairness=_jain([team.slowdown for team in teams]),
        plans=history.plans,
        span_s=history.ended - history.began,
        teams=teams,
    )


def at_share(values: list[int], share: float) -> int:
    """The smallest of the sorted values that this share of all does not exceed."""
    return values[min(len(values) - 1, max(0, -(-int(len(values) * share * 1000) // 1000) - 1))] if values else 0


def _allocated(history: History) -> float | None:
    """The baselines take no samples, and lose nothing: there the work that was done says what was held."""
    if history.samples:
        return _percent(history.samples, lambda sample: sample.used)
    span = history.gpus * (history.ended - history.began)
    return 100 * sum(_gpu_seconds(record) for record in history.finished) / span if span else None


def _percent(samples: list[Sample], of: Callable[[Sample], float]) -> float | None:
    """The mean over time; None where no time has passed."""
    span = sum(sample.span_s for sample in samples)
    return 100 * sum(of(sample) * sample.span_s for sample in samples) / span if span else None


def _mean(values: list[int] | list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _gpu_seconds(record: Record) -> float:
    return record.gpus * (record.job.duration_s or 0) if record.end is not None else 0.0


def _teams(records: list[Record], names: dict[int, str]) -> tuple[TeamFigures, ...]:
    by_team: dict[int, list[Record]] = {}
    for record in records:
        by_team.setdefault(record.team, []).append(record)
    rows = []
    for team, members in sorted(by_team.items()):
        waits = sorted(record.wait_s for record in members if record.wait_s is not None)
        rows.append(
            TeamFigures(
                id=team,
                team=names.get(team, str(team)),
                jobs=len(members),
                mean_wait_s=_mean(waits),
                p90_wait_s=at_share(waits, 0.9),
                gpu_hours=sum(_gpu_seconds(record) for record in members) / HOUR,
                slowdown=_mean([_slowdown(record) for record in members if record.wait_s is not None]),
            )
        )
    return tuple(rows)


def _slowdown(record: Record) -> float:
    """Bounded slowdown (Feitelson): how many times longer than its own work a job took; short ones count as longer."""
    lasts = max(record.job.duration_s or 0, SHORT_S)
    return (lasts + (record.wait_s or 0)) / lasts


def _jain(values: list[float]) -> float:
    """Jain's index over the teams' mean slowdowns: 1 when all suffer alike, 1/n when one suffers for all."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0
