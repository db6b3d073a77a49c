"""What must hold whatever was broken, read from the ledger and the engines alone."""

from collections.abc import Mapping, Sequence

from tests.cluster.cluster import Cluster

FINAL = ("succeeded", "failed", "cancelled", "timed_out")


def broken(cluster: Cluster, wanted: Mapping[int, str], killed: set[int]) -> dict[str, Sequence[object]]:
    """Invariant -> what broke it; every list empty when all hold. wanted: job -> the state that its script ends in.
    killed: allocations whose container was killed from outside."""
    return {
        "every job ends exactly once": _not_ended_once(cluster, wanted),
        "with the right outcome": _wrong_outcomes(cluster, wanted, killed),
        "no slot is ever held twice": cluster.query(
            "SELECT a.id, b.id FROM scheduling_allocation a JOIN scheduling_allocation b ON a.slot_id = b.slot_id AND "
            "a.id < b.id AND a.held_at < coalesce(b.released_at, 'infinity') AND "
            "b.held_at < coalesce(a.released_at, 'infinity')"
        ),
        "nothing is held at the end": cluster.query(
            "SELECT 'allocation', id FROM scheduling_allocation WHERE released_at IS NULL UNION ALL "
            "SELECT 'gpu', id FROM scheduling_gpu WHERE held_units <> 0 UNION ALL SELECT 'claim', id FROM scheduling_claim"
        ),
        "a gang is whole or absent": cluster.query(
            "SELECT j.id, a.attempt, count(DISTINCT a.part), j.replicas FROM scheduling_allocation a "
            "JOIN scheduling_job j ON j.id = a.job_id GROUP BY j.id, a.attempt, j.replicas "
            "HAVING count(DISTINCT a.part) <> j.replicas"
        ),
        "an attempt begins when the one before has let go": cluster.query(
            "SELECT a.job_id, a.attempt FROM scheduling_allocation a JOIN scheduling_allocation b ON "
            "a.job_id = b.job_id AND a.attempt < b.attempt AND b.held_at < coalesce(a.released_at, 'infinity')"
        ),
        "each step of a job's life begins where the last one ended": cluster.query(
            "SELECT job_id, id FROM (SELECT id, job_id, from_state, lag(to_state) OVER (PARTITION BY job_id ORDER BY id) "
            "AS before FROM scheduling_jobtransition) AS step WHERE before IS NOT NULL AND before <> from_state"
        ),
        "no container is left": [
            (node.name, one["Labels"]["berth.allocation"])
            for node in cluster.nodes.values()
            for one in node.containers()
        ],
    }


def _not_ended_once(cluster: Cluster, wanted: Mapping[int, str]) -> list[tuple[int, int]]:
    """(job, how often it ended) of those that did not end once."""
    sql = "SELECT job_id, count(*) FROM scheduling_jobtransition WHERE to_state = ANY(%s) GROUP BY job_id"
    ends = dict(cluster.query(sql, [*FINAL]))
    return [(job, ends.get(job, 0)) for job in wanted if ends.get(job, 0) != 1]


def _wrong_outcomes(cluster: Cluster, wanted: Mapping[int, str], killed: set[int]) -> list[tuple[object, ...]]:
    """Other than its script's own, though no container of its last attempt was killed from outside."""
    rows = cluster.query(
        "SELECT j.id, j.state, j.end_reason, j.end_message, array_agg(a.id) FROM scheduling_job j LEFT JOIN "
        "scheduling_allocation a ON a.job_id = j.id AND a.attempt = j.attempt GROUP BY j.id"
    )
    return [
        (job, f"{state} instead of {wanted[job]}", reason, message)
        for job, state, reason, message, last in rows
        if job in wanted and state != wanted[job] and not (state == "failed" and killed & {*last})
    ]


def outcomes(cluster: Cluster) -> list[tuple[str, int]]:
    return [(str(state), int(count)) for state, count in cluster.query(
        "SELECT state || CASE WHEN end_reason = '' THEN '' ELSE ' (' || end_reason || ')' END, count(*) "
        "FROM scheduling_job GROUP BY 1 ORDER BY 2 DESC"
    )]  # fmt: skip


def requeues(cluster: Cluster) -> list[tuple[str, int]]:
    return [(str(reason), int(count)) for reason, count in cluster.query(
        "SELECT reason, count(*) FROM scheduling_jobtransition WHERE event = 'released' AND to_state = 'queued' "
        "GROUP BY 1 ORDER BY 2 DESC"
    )]  # fmt: skip
