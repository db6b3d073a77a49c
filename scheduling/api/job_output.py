"""A job as the API shows it. What was asked for has the names of the input, so an answer can be sent again."""

from collections.abc import Mapping
from typing import Any

from scheduling.core.lifecycle import FINAL, JobState
from scheduling.job_board import Held, Why, history_of, places_of, reason_of, shown_state, terms_of
from scheduling.models import Job, JobTransition
from scheduling.selectors import Estimate


def row_out(job: Job, counts: Mapping[int, dict[str, int]]) -> dict[str, Any]:
    """In a list. `started_at`: of the present attempt, or the last."""
    tasks = counts.get(job.pk, {})
    waiting = job.state == JobState.QUEUED
    return {
        "id": job.pk,
        "name": job.name,
        "team": job.team.slug,
        "owner": job.owner.username,
        "state": shown_state(job, tasks),
        "reason": reason_of(job, tasks),
        "queue_place": job.hold_numbers.get("position") if waiting else None,
        "tier": job.tier,
        "gpus": job.gpus,
        "replicas": job.replicas,
        "cpus": job.cpu_millis / 1000,
        "memory_gib": job.memory_mib / 1024,
        "time_limit": int(job.limit.total_seconds()),
        "exit_code": job.exit_code,
        "attempt": job.attempt,
        "submitted_at": job.submitted_at,
        "started_at": job.running_at,
        "ended_at": job.ended_at,
        "array": job.array_spec or None,
        "tasks": tasks if job.array_size else None,
        "array_id": job.array_id,
        "array_index": job.array_index,
    }


def job_out(job: Job, counts: Mapping[int, dict[str, int]]) -> dict[str, Any]:
    """By itself."""
    script = bool(job.script)
    return {
        **row_out(job, counts),
        "end_code": job.end_code,
        "terms": terms_of(job) if job.state == JobState.QUEUED else "",
        "log_tail": job.log_tail,
        "places": [_place(held) for held in places_of(job)],
        "history": [_move(move) for move in history_of(job)],
        # as it was asked for
        "image": job.image,
        "command": [] if script else job.command,
        "script": job.script,
        "args": job.command if script else [],
        "env": job.env,
        "home": bool(job.volume),
        "mig": job.mig,
        "gpu_share": job.thousandths / 1000 or None,
        "gpu_memory_gib": job.gpu_memory_mib / 1024,
        "gpu_models": job.gpu_models,
        "pools": job.pools,
        "labels": {f"{'!' if need['absent'] else ''}{need['key']}": need["values"] for need in job.needs},
        "within": job.required,
        "preferably_within": job.preferred,
        "priority": job.priority,
        "preemptible": job.preemptible,
        "min_runtime": int(job.min_runtime.total_seconds()),
        "not_before": job.not_before_at,
        "deadline": job.deadline_at,
        "deadline_accepted": job.deadline_accepted if job.deadline_at else None,
        "promised_at": job.promised_at,
        "retries": job.retries,
        "retry_exit_codes": job.retry_exit_codes,
        "retried": job.retried,
    }


def _place(held: Held) -> dict[str, Any]:
    return {
        "replica": held.replica,
        "node": held.node,
        "phase": held.phase,
        "devices": [{"model": model, "uuid": uuid, "simulated": simulated} for model, uuid, simulated in held.devices],
        "image_digest": held.image_digest,
        "held_at": held.held_at,
        "released_at": held.released_at,
    }


def _move(move: JobTransition) -> dict[str, Any]:
    return {
        "at": move.at,
        "attempt": move.attempt,
        "state": move.to_state,
        "event": move.event,
        "reason": move.reason,
        "message": move.message,
    }


def why_out(job: Job, told: Why) -> dict[str, Any]:
    return {
        "id": job.pk,
        "state": job.state,
        "waits": job.state not in FINAL and told.estimate is not None,
        "reason": told.reason,
        "queue_place": told.place,
        "terms": told.terms,
        "kept_from": told.kept_from,
        "estimate": _estimate(told.estimate) if told.estimate else None,
        "changes": [{"what": change.what, "value": change.value} for change in told.changes],
    }


def _estimate(expected: Estimate) -> dict[str, Any]:
    return {"likely_at": expected.likely_at, "late_at": expected.late_at, "learned": expected.learned}
