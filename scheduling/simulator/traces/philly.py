"""Microsoft's Philly trace as a table: job_id, vc, gpu_num, submit_time, duration (seconds)."""

from collections.abc import Iterator
from pathlib import Path

from scheduling.simulator.traces.job import TraceJob
from scheduling.simulator.traces.problems import Problems
from scheduling.simulator.traces.rows import Row, table
from scheduling.simulator.traces.stream import jobs

COLUMNS = frozenset({"job_id", "vc", "gpu_num", "submit_time", "duration"})
#: what a file calls the things of a job, for messages
CALLED = {"gpus": "gpu_num", "replicas": "gpu_num", "team": "vc"}


def read(path: Path, problems: Problems, *, node_gpus: int = 8) -> Iterator[TraceJob]:
    """A job that is larger than a node takes whole nodes: 12 GPUs on nodes of 8 are two replicas of 8."""

    def make(row: Row) -> TraceJob:
        gpus = row.integer("gpu_num", least=1)
        nodes = -(-gpus // node_gpus)
        return TraceJob(
            id=row.text("job_id"),
            submit_s=row.integer("submit_time"),
            duration_s=row.integer("duration"),
            team=row.text("vc"),
            gpus=gpus if nodes == 1 else node_gpus,
            replicas=nodes,
        )

    return jobs(table(path, required=COLUMNS), make, problems, submit="submit_time")


def read_nodes(path: Path) -> dict[str, int]:
    """Nodes of each virtual cluster, from the table beside the trace: vc, nodes."""
    return {row.text("vc"): row.integer("nodes", least=1) for row in table(path, required=frozenset({"vc", "nodes"}))}
